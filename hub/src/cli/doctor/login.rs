//! Where users log in, and whose tokens are believed.

use delivery::{
    clock::SharedClock,
    outbound::Outbound,
    provider::{AuthRequest, Providers},
};
use metrics::NoopRecorder;

use super::report::{Finding, causes, fail, ok, warn};
use crate::config::Config;

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let (providers, issuers) = (&config.providers, config.auth.issuers.clone());
    let mut findings = Vec::new();
    let outbound = match Outbound::new(&NoopRecorder) {
        Ok(outbound) => outbound,
        Err(error) => {
            let advice = "install the system's certificates (Debian: ca-certificates)";
            return vec![fail("tls", causes(&error), advice)];
        }
    };
    if providers.is_any() {
        findings.push(public_url(config));
    }
    let known = Providers::new(providers, &outbound, &SharedClock::default().clock());
    for provider in known.all() {
        let name = &provider.about().name;
        // Where a browser would be sent: providers that have to be asked for that are asked.
        let request = AuthRequest {
            state: "doctor",
            redirect_uri: "https://localhost/",
            challenge: None,
            nonce: None,
        };
        findings.push(
            match tokio::time::timeout(providers.timeout, provider.auth_url(&request)).await {
                Ok(Ok(url)) => {
                    let host = url.host_str().unwrap_or_default().to_owned();
                    ok("login.providers", format!("{name}: users sign in at {host}"))
                }
                Ok(Err(error)) => warn(
                    "login.providers",
                    causes(&error),
                    "see its settings, and whether it is reachable from here",
                ),
                Err(_) => warn(
                    "login.providers",
                    format!("{name} did not answer within OAUTH_TIMEOUT"),
                    "see whether it is reachable from here",
                ),
            },
        );
    }
    match issuers.open(&outbound) {
        Err(error) => findings.push(fail("login.issuers", causes(&error), "see JWT_ISSUERS")),
        Ok(issuers) => {
            for (name, looked) in issuers.look().await {
                findings.push(match looked {
                    Ok(()) => ok("login.issuers", format!("{name}: its keys are known")),
                    Err(error) => warn(
                        "login.issuers",
                        format!("{name}: {}", causes(&error)),
                        "until its keys can be fetched its tokens are refused (503)",
                    ),
                });
            }
        }
    }
    findings
}

fn public_url(config: &Config) -> Finding {
    const CHECK: &str = "login.public_url";
    let Some(url) = &config.providers.public_url else {
        return warn(
            CHECK,
            "not set: providers send browsers back to whatever host the request named",
            "set PUBLIC_URL to where browsers find this hub",
        );
    };
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let host = url.host_str().unwrap_or_default();
    if url.scheme() == "https" || is_here {
        ok(CHECK, format!("{}://{host}", url.scheme()))
    } else {
        warn(
            CHECK,
            format!("http://{host}: codes and tokens of logins cross the network in clear"),
            "put a proxy with TLS before it, and https:// into PUBLIC_URL",
        )
    }
}
