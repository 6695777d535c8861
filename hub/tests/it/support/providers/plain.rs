//! A company's own OAuth2: answers a form, and user data some levels deep.

use serde_json::json;

use super::{
    Asked, CLIENT_ID, CLIENT_SECRET, Shared, Told, error_page, json_of, name_of, redeemed,
    signed_in, told,
};

pub(super) fn answer(shared: &Shared, asked: &Asked) -> Told {
    match asked.path.as_str() {
        "authorize" if asked.get("client_id") != CLIENT_ID => error_page("who is that?"),
        "authorize" => signed_in(shared, "company", asked, "code", &[]),
        "token" => {
            let form = asked.form();
            let get = |name: &str| form.get(name).map_or("", String::as_str);
            let mut world = shared.world();
            if get("client_id") != CLIENT_ID || get("client_secret") != CLIENT_SECRET {
                return json_of(401, &json!({"error": "invalid_client"}));
            }
            match redeemed(&mut world, "company", &form) {
                Ok(visit) => {
                    let token = world.new_token("co_", visit);
                    let body = format!("access_token={token}&expires_in=3600");
                    told(200, "application/x-www-form-urlencoded", body)
                }
                Err(error) => json_of(400, &json!({"error": error})),
            }
        }
        "me" => match shared.world().tokens.get(asked.bearer()) {
            Some(visit) => json_of(
                200,
                &json!({"code": 0, "data": {"user": {
                    "no": visit.person.parse::<u64>().unwrap(),
                    "account": format!("acc{}", visit.person), "nick": name_of(&visit.person),
                    "mails": [format!("{}@company.example", visit.person)],
                }}}),
            ),
            None => json_of(401, &json!({"code": 401})),
        },
        _ => told(404, "text/plain", ""),
    }
}
