//! WeChat, WeCom and DingTalk.

use serde_json::{Value, json};

use super::{
    AGENT_ID, Asked, CLIENT_ID, CLIENT_SECRET, Shared, Told, error_page, json_of, name_of,
    picture_of, signed_in, told,
};

/// Errors come with 200, and JSON as text.
fn plain(body: &Value) -> Told {
    told(200, "text/plain", body.to_string())
}

fn errcode(code: i64, message: &str) -> Told {
    plain(&json!({"errcode": code, "errmsg": format!("{message}, rid: 65a0-1b2c")}))
}

/// WeChat: GETs with the secret in the query.
pub(super) fn wechat(shared: &Shared, asked: &Asked) -> Told {
    match asked.path.as_str() {
        "connect/qrconnect" => {
            if asked.get("appid") != CLIENT_ID
                || asked.get("scope") != "snsapi_login"
                || asked.get("response_type") != "code"
            {
                return error_page("Scope 参数错误或没有 Scope 权限");
            }
            signed_in(shared, "wechat", asked, "code", &[])
        }
        "sns/oauth2/access_token" => {
            if asked.method != "GET" {
                return errcode(43001, "require GET method");
            }
            if asked.get("appid") != CLIENT_ID {
                return errcode(40013, "invalid appid");
            }
            if asked.get("secret") != CLIENT_SECRET {
                return errcode(40125, "invalid appsecret");
            }
            let mut world = shared.world();
            let visit = match world.spend("wechat", asked.get("code")) {
                Ok(visit) => visit,
                Err(true) => return errcode(40163, "code been used"),
                Err(false) => return errcode(40029, "invalid code"),
            };
            let openid = format!("oPen_{}", visit.person);
            let mut answer = json!({
                "expires_in": 7200, "refresh_token": "REFRESH", "openid": openid,
                "scope": "snsapi_login", "unionid": format!("oUni_{}", visit.person),
            });
            if world.odd.contains("wechat has no unionid") {
                answer.as_object_mut().unwrap().remove("unionid");
            }
            answer["access_token"] = world.new_token("wx_", visit).into();
            plain(&answer)
        }
        "sns/userinfo" => {
            let world = shared.world();
            let Some(visit) = world.tokens.get(asked.get("access_token")) else {
                return errcode(40001, "invalid credential, access_token is invalid or not latest");
            };
            let openid = format!("oPen_{}", visit.person);
            if asked.get("openid") != openid {
                return errcode(40003, "invalid openid");
            }
            let mut user = json!({
                "openid": openid, "nickname": name_of(&visit.person), "sex": 1, "province": "",
                "city": "", "country": "", "headimgurl": picture_of(&visit.person),
                "privilege": [], "unionid": format!("oUni_{}", visit.person),
            });
            if world.odd.contains("wechat has no unionid") {
                user.as_object_mut().unwrap().remove("unionid");
            }
            plain(&user)
        }
        _ => told(404, "text/plain", ""),
    }
}

/// WeCom: a token of the app, and names in two cases.
pub(super) fn wecom(shared: &Shared, asked: &Asked) -> Told {
    let mut world = shared.world();
    let has_token = world.app_tokens.contains(asked.get("access_token"));
    match asked.path.as_str() {
        "wwlogin/sso/login" => {
            drop(world);
            if asked.get("login_type") != "CorpApp"
                || asked.get("appid") != CLIENT_ID
                || asked.get("agentid") != AGENT_ID
            {
                return error_page("50001 redirect_url 未登记可信域名");
            }
            signed_in(shared, "wecom", asked, "code", &[])
        }
        "cgi-bin/gettoken" => {
            if asked.get("corpid") != CLIENT_ID {
                return errcode(40013, "invalid corpid");
            }
            if asked.get("corpsecret") != CLIENT_SECRET {
                return errcode(40001, "invalid credential");
            }
            let token = format!("app_{:x}", super::rand_bytes());
            // There is one at a time.
            world.app_tokens = [token.clone()].into();
            plain(&json!({"errcode": 0, "errmsg": "ok", "access_token": token, "expires_in": 7200}))
        }
        _ if !has_token => errcode(40014, "invalid access_token"),
        "cgi-bin/auth/getuserinfo" => {
            let visit = match world.spend("wecom", asked.get("code")) {
                Ok(visit) => visit,
                Err(_) => return errcode(40029, "invalid code"),
            };
            let person = visit.person;
            plain(&if person.starts_with("guest") {
                json!({"errcode": 0, "errmsg": "ok", "openid": format!("oGuest_{person}")})
            } else if world.odd.contains("wecom writes UserId") {
                json!({"errcode": 0, "errmsg": "ok", "UserId": person, "DeviceId": "d"})
            } else {
                json!({"errcode": 0, "errmsg": "ok", "userid": person, "user_ticket": "T", "expires_in": 1800})
            })
        }
        "cgi-bin/user/get" => {
            let person = asked.get("userid").to_owned();
            let status = if person.starts_with("left") { 5 } else { 1 };
            plain(&json!({
                "errcode": 0, "errmsg": "ok", "userid": person, "name": name_of(&person),
                "department": [1, 2], "position": "工程师", "avatar": picture_of(&person),
                "status": status, "email": format!("{person}@corp.example"),
            }))
        }
        _ => told(404, "text/plain", ""),
    }
}

/// DingTalk: `authCode`, camelCase, a header of its own.
pub(super) fn dingtalk(shared: &Shared, asked: &Asked) -> Told {
    let error = |status, code: &str| {
        json_of(status, &json!({"code": code, "message": "<b>不对</b>", "requestid": "0A1B"}))
    };
    match asked.path.as_str() {
        "oauth2/auth" => {
            if asked.get("client_id") != CLIENT_ID
                || asked.get("prompt") != "consent"
                || !asked.get("scope").split(' ').any(|scope| scope == "openid")
            {
                return error_page("参数错误");
            }
            signed_in(shared, "dingtalk", asked, "authCode", &[])
        }
        "v1.0/oauth2/userAccessToken" => {
            if !asked.header("content-type").starts_with("application/json") {
                return error(400, "UnsupportedMediaType");
            }
            let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
            let get = |name: &str| body[name].as_str().unwrap_or_default();
            if get("clientId") != CLIENT_ID || get("clientSecret") != CLIENT_SECRET {
                return error(400, "invalidClientIdOrSecret");
            }
            if get("grantType") != "authorization_code" {
                return error(400, "unsupportedGrantType");
            }
            let mut world = shared.world();
            let Ok(visit) = world.spend("dingtalk", get("code")) else {
                return error(400, "invalidParameter.authCode.notFound");
            };
            let token = world.new_token("dt_", visit);
            json_of(
                200,
                &json!({"accessToken": token, "refreshToken": "R", "expireIn": 7200, "corpId": "ding1"}),
            )
        }
        "v1.0/contact/users/me" => {
            let world = shared.world();
            match world.tokens.get(asked.header("x-acs-dingtalk-access-token")) {
                Some(visit) => json_of(
                    200,
                    &json!({
                        "nick": name_of(&visit.person), "avatarUrl": picture_of(&visit.person),
                        "mobile": "150xxxx9144", "openId": format!("dOpen_{}", visit.person),
                        "unionId": format!("dUni_{}", visit.person), "stateCode": "86",
                        "email": format!("{}@own.example", visit.person),
                    }),
                ),
                None => error(400, "InvalidAuthentication"),
            }
        }
        _ => error(404, "NotFound"),
    }
}
