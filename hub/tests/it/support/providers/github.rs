//! GitHub: answers a form unless it is asked for JSON, says errors with 200, wants a `User-Agent`.

use serde_json::{Value, json};

use super::{
    Asked, CLIENT_ID, CLIENT_SECRET, Shared, Told, error_page, json_of, name_of, picture_of,
    redeemed, signed_in, told,
};

pub(super) fn answer(shared: &Shared, asked: &Asked) -> Told {
    match asked.path.as_str() {
        "login/oauth/authorize" if asked.get("client_id") != CLIENT_ID => error_page("no such app"),
        "login/oauth/authorize" => signed_in(shared, "github", asked, "code", &[]),
        "login/oauth/access_token" => token(shared, asked),
        "user" => of_token(shared, asked, |person| {
            json!({
                "id": person.parse::<u64>().unwrap(), "login": format!("octo{person}"),
                "node_id": "MDQ6VXNlcjE=", "type": "User", "site_admin": false,
                "name": name_of(person), "avatar_url": picture_of(person),
                "html_url": format!("https://github.com/octo{person}"),
                // Anybody can write anything here, and most leave it out.
                "email": Value::Null,
            })
        }),
        "user/emails" if shared.world().odd.contains("github keeps emails") => {
            json_of(404, &json!({"message": "Not Found", "status": "404"}))
        }
        "user/emails" => of_token(shared, asked, |person| {
            json!([
                {"email": format!("{person}@unverified.example"), "verified": false, "primary": false},
                {"email": format!("{person}@example.com"), "verified": true, "primary": true, "visibility": "private"},
            ])
        }),
        _ => json_of(404, &json!({"message": "Not Found"})),
    }
}

fn token(shared: &Shared, asked: &Asked) -> Told {
    let form = asked.form();
    let get = |name: &str| form.get(name).map_or("", String::as_str);
    let mut world = shared.world();
    world.said.push(String::from_utf8_lossy(&asked.body).into_owned());
    let answer = if get("client_id") != CLIENT_ID || get("client_secret") != CLIENT_SECRET {
        Err("incorrect_client_credentials")
    } else {
        redeemed(&mut world, "github", &form).map_err(|error| match error {
            "invalid_grant" => "bad_verification_code",
            other => other,
        })
    };
    let pairs = match answer {
        Ok(visit) => {
            let token = world.new_token("gho_", visit);
            vec![
                ("access_token", token),
                ("scope", "read:user,user:email".to_owned()),
                ("token_type", "bearer".to_owned()),
            ]
        }
        Err(error) => vec![
            ("error", error.to_owned()),
            ("error_description", "The code passed is <b>incorrect</b> or expired.".to_owned()),
            ("error_uri", "https://docs.github.com/x".to_owned()),
        ],
    };
    let wants_json =
        asked.header("accept").contains("json") && !world.odd.contains("github answers forms");
    if wants_json {
        let object = pairs.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value)));
        return json_of(200, &Value::Object(object.collect()));
    }
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    told(200, "application/x-www-form-urlencoded; charset=utf-8", form)
}

fn of_token(shared: &Shared, asked: &Asked, data: impl Fn(&str) -> Value) -> Told {
    if asked.header("user-agent").is_empty() {
        return told(403, "text/html", "Request forbidden by administrative rules.");
    }
    match shared.world().tokens.get(asked.bearer()) {
        Some(visit) if visit.provider == "github" => json_of(200, &data(&visit.person)),
        _ => json_of(401, &json!({"message": "Bad credentials", "status": "401"})),
    }
}
