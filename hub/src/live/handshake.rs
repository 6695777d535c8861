//! `GET /ws`: checks the request and answers 101, or says by HTTP why not. What is not about
//! WebSockets, `stream` asks here as well.
//!
//! The order is by cost and by what may be told: a node that goes down, an address that tries too
//! often, a broken request, a foreign page, a bad token, and only then, for somebody known, the
//! limits of connections.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Query, Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use delivery::{api::doc, identity::UserCaller, limit::Client};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use protocol::{Codec, DeviceType, ErrorType, Seq};
use tungstenite::handshake::derive_accept_key;

use super::{
    Live, Refusal,
    establish::{self, Admitted, Entry, Opening, Slot},
    framing::{Framing, Transport},
    metrics::Rejection,
    refusal::Refused,
    stream,
};
use crate::http::origin::Source;

/// When a client that was refused for a limit should ask again, in seconds.
const RETRY_AFTER_LIMIT_S: u32 = 5;

/// When a client of a node that goes down should ask again, in seconds: another node answers then.
const RETRY_AFTER_DRAINING_S: u32 = 1;

/// `/ws`, which AsyncAPI describes, is no endpoint of the list.
pub(super) fn routes(live: Arc<Live>) -> Router {
    doc::router(vec![stream::endpoint()]).route("/ws", any(upgrade)).with_state(live)
}

async fn upgrade(State(live): State<Arc<Live>>, mut request: Request) -> Response {
    fetch_key(&live, shown_token(&request)).await;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let checked = check(&live, &request, upgrade);
    let admitted = match checked {
        Ok((visit, opening)) => visit.admit(&live).await.map(|(entry, since)| {
            let Upgrading { upgrade, codec, accept, offered } = opening;
            let (opening, framing) = (Opening::Upgrade(upgrade), Framing::WebSocket(codec));
            let admitted = Admitted { opening, entry, framing, since };
            (admitted, switching_protocols(&accept, offered.then_some(codec)))
        }),
        Err(refused) => Err(refused),
    };
    match admitted {
        Ok((admitted, response)) => {
            establish::spawn(live, admitted);
            response
        }
        Err(refused) => {
            live.metrics().rejected(refused.rejection).increment(1);
            refused.into_response(request.headers())
        }
    }
}

/// How a socket's request is answered if whoever sent it may come in.
struct Upgrading {
    upgrade: OnUpgrade,
    codec: Codec,
    /// What its key is answered with.
    accept: String,
    /// Whether a subprotocol is to be echoed.
    offered: bool,
}

fn switching_protocols(accept: &str, subprotocol: Option<Codec>) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    *response.body_mut() = Body::empty();
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let accept = HeaderValue::from_str(accept).expect("base64 is a header value");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(codec) = subprotocol {
        let name = HeaderValue::from_static(codec.subprotocol());
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    response
}

/// Everything that can be said of the request before anybody is asked who sent it.
fn check(
    live: &Live,
    request: &Request,
    upgrade: Option<OnUpgrade>,
) -> Result<(Visit, Upgrading), Refused> {
    let client = enter(live, request)?;
    let headers = request.headers();
    let key = check_rfc6455(request)?;
    let upgrade =
        upgrade.ok_or_else(|| Refused::bad_request("this connection cannot be upgraded"))?;
    let (codec, offered) = subprotocol(headers)?;
    let visit = Visit::new(live, request, client, Transport::WebSocket)?;
    let accept = derive_accept_key(key.as_bytes());
    Ok((visit, Upgrading { upgrade, codec, accept, offered }))
}

/// The token that a request shows, whole or broken.
pub(super) fn shown_token(request: &Request) -> Option<String> {
    match request.headers().get(header::AUTHORIZATION) {
        Some(value) => Some(value.to_str().ok()?.split_once(' ')?.1.trim().to_owned()),
        None => WsQuery::read(request).ok()?.token,
    }
}

/// Waits for the key that a token of another issuer was signed with: what follows does not wait.
pub(super) async fn fetch_key(live: &Live, token: Option<String>) {
    if let Some(token) = token {
        live.verifier().fetch_key(&token).await;
    }
}

/// What is asked of every request for a connection before it is looked at: that the node stays, and
/// that its address does not try too often.
pub(super) fn enter(live: &Live, request: &Request) -> Result<Client, Refused> {
    if live.is_draining() {
        let refused =
            Refused::new(Rejection::Draining, ErrorType::Unavailable, "this node is going down");
        return Err(refused.retry_after(RETRY_AFTER_DRAINING_S));
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let client = live.limiter().client(peer.map(|peer| peer.0.ip()), request.headers());
    live.limiter().connect(client).map_err(Refused::limited)?;
    Ok(client)
}

/// Somebody who wants to come in.
pub(super) struct Visit {
    client: Client,
    transport: Transport,
    authorization: Option<HeaderValue>,
    query: WsQuery,
}

impl Visit {
    /// What the request says of them; pages of other origins are sent away.
    pub(super) fn new(
        live: &Live,
        request: &Request,
        client: Client,
        transport: Transport,
    ) -> Result<Self, Refused> {
        let headers = request.headers();
        if Source::of(headers, &live.config().allowed_origins) == Source::Foreign {
            return Err(Refused::new(
                Rejection::Origin,
                ErrorType::Forbidden,
                "pages of this origin may not connect",
            ));
        }
        let query = WsQuery::read(request)?;
        let authorization = headers.get(header::AUTHORIZATION).cloned();
        Ok(Self { client, transport, authorization, query })
    }

    /// Who comes in, and the position they name in the URL.
    pub(super) async fn admit(self, live: &Arc<Live>) -> Result<(Entry, Option<Seq>), Refused> {
        let Self { client, transport, authorization, query } = self;
        let caller = authenticate(live, authorization.as_ref(), &query, client).await?;
        // A browser cannot read the status of a refused WebSocket: there the close code 4029 says it.
        let told_by_status = transport == Transport::EventStream;
        if told_by_status && !live.registry().has_room(&caller.inbox, caller.device.as_ref()) {
            let refused = Refused::new(
                Rejection::Limit,
                ErrorType::RateLimited,
                format!("a user has at most {} connections", live.registry().per_user_max()),
            );
            return Err(refused.retry_after(RETRY_AFTER_LIMIT_S));
        }
        let slot = Slot::take(live).ok_or_else(|| {
            Refused::new(Rejection::Limit, ErrorType::Unavailable, "this node is full")
                .retry_after(RETRY_AFTER_LIMIT_S)
        })?;
        let (device_type, address) = (query.device_type, client.address);
        Ok((Entry { slot, caller, device_type, address }, query.since))
    }
}

/// RFC 6455 §4.2.1; answers the key.
fn check_rfc6455(request: &Request) -> Result<&HeaderValue, Refused> {
    if request.method() != Method::GET {
        return Err(Refused::new(
            Rejection::BadRequest,
            ErrorType::MethodNotAllowed,
            "a WebSocket is opened with GET",
        ));
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refused::bad_request("a WebSocket is opened with HTTP/1.1"));
    }
    let headers = request.headers();
    if !has_token(headers, &header::CONNECTION, "upgrade")
        || !has_token(headers, &header::UPGRADE, "websocket")
    {
        return Err(Refused::bad_request(
            "this is a WebSocket: send Connection: Upgrade and Upgrade: websocket",
        ));
    }
    if single(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused::field("Sec-WebSocket-Version", "must be 13"));
    }
    single(headers, &header::SEC_WEBSOCKET_KEY)
        .filter(|key| is_key(key.as_bytes()))
        .ok_or_else(|| Refused::field("Sec-WebSocket-Key", "must be 16 bytes in base64"))
}

fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// Whether a list header names a token, in any case.
fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    list(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

fn list<'a>(
    headers: &'a HeaderMap,
    name: &header::HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

/// 16 bytes in base64 are 22 digits and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(digit) && key.ends_with(b"==")
}

/// The first offered subprotocol that we speak, and whether any was offered. None offered: JSON.
fn subprotocol(headers: &HeaderMap) -> Result<(Codec, bool), Refused> {
    let known = |name: &str| {
        Codec::SUBPROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, codec)| *codec)
    };
    let mut offered = false;
    for name in list(headers, &header::SEC_WEBSOCKET_PROTOCOL) {
        if let Some(codec) = known(name) {
            return Ok((codec, true));
        }
        offered = true;
    }
    if offered {
        let names = Codec::SUBPROTOCOLS.map(|(name, _)| name).join(" and ");
        return Err(Refused::field("Sec-WebSocket-Protocol", format!("may be {names}")));
    }
    Ok((Codec::Json, false))
}

/// What may stand in the URL of either. Unknown names are passed over: proxies and clients add their own.
#[derive(Default)]
struct WsQuery {
    token: Option<String>,
    ticket: Option<String>,
    since: Option<Seq>,
    device_type: DeviceType,
}

impl WsQuery {
    fn read(request: &Request) -> Result<Self, Refused> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()) else {
            return Err(Refused::bad_request("the query cannot be read"));
        };
        let mut query = Self::default();
        // As everywhere in the API, an empty value counts as left out.
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            match name.as_str() {
                "token" => query.token = Some(value),
                "ticket" => query.ticket = Some(value),
                "since" => {
                    let seq = value.parse().map_err(|_| {
                        Refused::field("since", "must be a position: a whole number, 0 or more")
                    })?;
                    query.since = Some(Seq(seq));
                }
                "device_type" => {
                    let known = DeviceType::ALL.into_iter().find(|kind| kind.as_str() == value);
                    query.device_type = known.ok_or_else(|| {
                        Refused::field("device_type", "must be mobile, desktop or web")
                    })?;
                }
                _ => {}
            }
        }
        Ok(query)
    }
}

async fn authenticate(
    live: &Live,
    authorization: Option<&HeaderValue>,
    query: &WsQuery,
    client: Client,
) -> Result<UserCaller, Refused> {
    let verified = match (authorization, &query.token, &query.ticket) {
        (Some(value), ..) => {
            let token = value.to_str().ok().and_then(|value| value.split_once(' '));
            match token {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                    live.verifier().verify_token(token.trim())
                }
                _ => Err(Refusal::Unauthorized("Authorization must be: Bearer <token>".to_owned())),
            }
        }
        (None, Some(token), _) => live.verifier().verify_token(token),
        (None, None, Some(ticket)) => live.verifier().redeem(ticket).await,
        (None, None, None) => Err(Refusal::Unauthorized(
            "a token is needed: Authorization: Bearer, ?token= or ?ticket=".to_owned(),
        )),
    };
    verified.map_err(|refusal| {
        if matches!(refusal, Refusal::Forged(_)) {
            live.limiter().bad_connect_credential(client);
        }
        let rejection = match refusal {
            Refusal::Unauthorized(_) | Refusal::Forged(_) => Rejection::Auth,
            Refusal::Forbidden(_) => Rejection::Forbidden,
            Refusal::Unavailable(_) => Rejection::Unavailable,
        };
        let refused = Refused::new(rejection, refusal.kind(), refusal.to_string());
        match refusal {
            Refusal::Unavailable(_) => refused.retry_after(RETRY_AFTER_LIMIT_S),
            Refusal::Unauthorized(_) | Refusal::Forged(_) | Refusal::Forbidden(_) => refused,
        }
    })
}
