//! OpenID Connect, as Google and a company's own speak it.

use std::{collections::HashSet, sync::OnceLock};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};

use super::{
    Asked, CLIENT_ID, CLIENT_SECRET, Shared, Told, Visit, error_page, json_of, name_of, picture_of,
    redeemed, signed_in,
};
use crate::support::rsa_key::RsaKey;

/// What is done to `id_token`s.
#[derive(Clone, Debug)]
pub(crate) enum Forge {
    /// Claims are changed; null takes one out.
    Claims(Value),
    /// Signed with another key of the same name.
    OtherKey,
    /// Not signed.
    Unsigned(&'static str),
    /// Signed with HMAC by the published key's bytes.
    Confused,
    /// Signed with HMAC by the client's secret.
    BySecret,
    /// Signed with another key, which is in the header.
    OwnKey,
    /// Named by a key that is not published.
    UnknownKey,
    /// Not there.
    Missing,
    /// Not a token.
    Text(&'static str),
}

/// Signs `id_token`s.
pub(super) struct Signer {
    key: EncodingKey,
    other: EncodingKey,
    public: Value,
    other_public: Jwk,
    /// Made when somebody first asks for it, because that takes long.
    rsa: OnceLock<RsaKey>,
}

const KID: &str = "key-of-today";

/// Signs as the real Google does.
const RS256: &str = "signs with RS256";

impl Signer {
    pub(super) fn make() -> Self {
        let new = || {
            let made = servers::Certificates::make();
            EncodingKey::from_ec_pem(made.key.as_bytes()).unwrap()
        };
        let (key, other) = (new(), new());
        let public = |key| Jwk::from_encoding_key(key, Algorithm::ES256).unwrap();
        let mut published = serde_json::to_value(public(&key)).unwrap();
        published["kid"] = KID.into();
        published["use"] = "sig".into();
        let other_public = public(&other);
        Self { key, other, public: published, other_public, rsa: OnceLock::new() }
    }

    fn rsa(&self) -> &RsaKey {
        self.rsa.get_or_init(|| RsaKey::make(KID))
    }

    fn published(&self, odd: &HashSet<&str>) -> Value {
        if odd.contains(RS256) { self.rsa().jwk() } else { self.public.clone() }
    }

    fn sign(&self, mut claims: Value, forge: Option<&Forge>) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(KID.to_owned());
        let hmac = |secret: &[u8], claims: &Value| {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some(KID.to_owned());
            jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
        };
        let key = match forge {
            None => &self.key,
            Some(Forge::Claims(changes)) => {
                for (name, value) in changes.as_object().unwrap() {
                    if value.is_null() {
                        claims.as_object_mut().unwrap().remove(name);
                    } else {
                        claims[name] = value.clone();
                    }
                }
                &self.key
            }
            Some(Forge::OtherKey) => &self.other,
            Some(Forge::Unsigned(alg)) => {
                let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
                let header = json!({"alg": alg, "typ": "JWT", "kid": KID});
                return format!("{}.{}.", part(&header), part(&claims));
            }
            Some(Forge::Confused) => return hmac(self.public.to_string().as_bytes(), &claims),
            Some(Forge::BySecret) => return hmac(CLIENT_SECRET.as_bytes(), &claims),
            Some(Forge::OwnKey) => {
                header.jwk = Some(self.other_public.clone());
                header.kid = None;
                &self.other
            }
            Some(Forge::UnknownKey) => {
                header.kid = Some("key-of-nobody".to_owned());
                &self.key
            }
            Some(Forge::Text(text)) => return (*text).to_owned(),
            Some(Forge::Missing) => return String::new(),
        };
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    }
}

/// Which path of which is what.
struct Paths {
    authorize: &'static str,
    token: &'static str,
    userinfo: &'static str,
    keys: &'static str,
}

const GOOGLE: Paths = Paths {
    authorize: "o/oauth2/v2/auth",
    token: "token",
    userinfo: "v1/userinfo",
    keys: "oauth2/v3/certs",
};
const OIDC: Paths =
    Paths { authorize: "authorize", token: "token", userinfo: "userinfo", keys: "jwks" };

pub(super) fn answer(shared: &Shared, provider: &'static str, asked: &Asked) -> Told {
    let paths = if provider == "google" { GOOGLE } else { OIDC };
    let issuer = shared.base(provider);
    let path = asked.path.as_str();
    if path == ".well-known/openid-configuration" {
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/{}", paths.authorize),
            "token_endpoint": format!("{issuer}/{}", paths.token),
            "userinfo_endpoint": format!("{issuer}/{}", paths.userinfo),
            "jwks_uri": format!("{issuer}/{}", paths.keys),
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        });
        if provider == "google" {
            document["token_endpoint_auth_methods_supported"] =
                json!(["client_secret_post", "client_secret_basic"]);
        } else {
            document["authorization_response_iss_parameter_supported"] = true.into();
        }
        for (name, value) in &shared.world().document {
            document[*name] = value.clone();
        }
        return json_of(200, &document);
    }
    if path == paths.keys {
        return json_of(200, &json!({"keys": [shared.signer.published(&shared.world().odd)]}));
    }
    if path == paths.authorize {
        let scope = asked.get("scope");
        if asked.get("client_id") != CLIENT_ID
            || asked.get("response_type") != "code"
            || !scope.split(' ').any(|scope| scope == "openid")
        {
            return error_page("Error 400: invalid_request");
        }
        let more = [("iss", issuer.as_str()), ("scope", scope)];
        let more = if provider == "google" { &more[1..] } else { &more[..1] };
        return signed_in(shared, provider, asked, "code", more);
    }
    if path == paths.token {
        return token(shared, provider, asked);
    }
    if path == paths.userinfo {
        let world = shared.world();
        return match world.tokens.get(asked.bearer()) {
            Some(visit) if world.odd.contains("userinfo of another") => json_of(
                200,
                &json!({"sub": "someone-else", "email": format!("{}@x.example", visit.person)}),
            ),
            Some(visit) => json_of(200, &person(&visit.person)),
            None => json_of(401, &json!({"error": "invalid_token"})),
        };
    }
    json_of(404, &json!({"error": "not_found"}))
}

/// Claims about a person; Google has them all in the token, others leave most to the userinfo endpoint.
fn person(person: &str) -> Value {
    json!({
        "sub": person, "email": format!("{person}@example.com"), "email_verified": true,
        "name": name_of(person), "preferred_username": format!("user{person}"),
        "picture": picture_of(person), "locale": "zh-CN",
    })
}

fn token(shared: &Shared, provider: &'static str, asked: &Asked) -> Told {
    let error = |status, error: &str| {
        json_of(status, &json!({"error": error, "error_description": "<b>no</b>"}))
    };
    let form = asked.form();
    let get = |name: &str| form.get(name).map_or("", String::as_str);
    let mut world = shared.world();
    world.said.push(String::from_utf8_lossy(&asked.body).into_owned());
    let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}")));
    let by_body = get("client_id") == CLIENT_ID && get("client_secret") == CLIENT_SECRET;
    // Google takes both; the other one takes what its operator has ticked.
    let is_client = match provider {
        "google" => by_body || asked.header("authorization") == basic,
        _ if world.odd.contains("oidc takes the body only") => by_body,
        _ => asked.header("authorization") == basic,
    };
    if !is_client {
        return error(401, "invalid_client");
    }
    if get("grant_type") != "authorization_code" {
        return error(400, "unsupported_grant_type");
    }
    let visit = match redeemed(&mut world, provider, &form) {
        Ok(visit) => visit,
        Err(what) => return error(400, what),
    };
    let forge = world.forge.clone();
    let claims = claims(shared, provider, &visit);
    let id_token = match world.odd.contains(RS256) {
        true => shared.signer.rsa().sign_claims(&claims),
        false => shared.signer.sign(claims, forge.as_ref()),
    };
    let access_token = world.new_token("ya29.", visit);
    let mut answer = json!({
        "access_token": access_token, "expires_in": 3599, "scope": "openid email profile",
        "token_type": "Bearer", "id_token": id_token,
    });
    if matches!(forge, Some(Forge::Missing)) {
        answer.as_object_mut().unwrap().remove("id_token");
    }
    json_of(200, &answer)
}

fn claims(shared: &Shared, provider: &str, visit: &Visit) -> Value {
    let now = jiff::Timestamp::now().as_second();
    let mut claims =
        if provider == "google" { person(&visit.person) } else { json!({"sub": visit.person}) };
    claims["iss"] = shared.base(provider).into();
    claims["aud"] = CLIENT_ID.into();
    claims["azp"] = CLIENT_ID.into();
    claims["iat"] = now.into();
    claims["exp"] = (now + 3600).into();
    if let Some(nonce) = &visit.nonce {
        claims["nonce"] = nonce.as_str().into();
    }
    if provider == "google" && visit.person.starts_with("work") {
        claims["hd"] = "example.com".into();
    }
    claims
}
