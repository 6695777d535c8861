//! The settings, and what is secret among them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use secrecy::{ExposeSecret as _, SecretString};

use super::report::{Finding, Status, fail, ok, warn};
use crate::config::{AuthConfig, ConfigError, Effective, Loaded, Origin};

/// Words of examples. A secret that holds one was likely pasted.
const PLACEHOLDERS: [&str; 11] = [
    "your-secret",
    "your_secret",
    "yoursecret",
    "changeme",
    "change-me",
    "change_me",
    "placeholder",
    "replaceme",
    "replace-me",
    "password",
    "example",
];

/// Fewest different characters of a text that somebody made by chance: 32 random hexadecimal digits have
/// fewer than this one time in a million.
const DISTINCT_MIN: usize = 8;

pub(super) fn examine(loaded: &Result<Loaded, ConfigError>) -> Vec<Finding> {
    const CHECK: &str = "settings";
    let told = |warning: &String| Finding {
        check: CHECK,
        status: Status::Warn,
        found: warning.clone(),
        advice: None,
    };
    match loaded {
        Err(ConfigError { problems, warnings }) => problems
            .iter()
            .map(|problem| Finding {
                check: CHECK,
                status: Status::Fail,
                found: format!("{}: {}", problem.name, problem.text),
                advice: None,
            })
            .chain(warnings.iter().map(told))
            .collect(),
        Ok(Loaded { config, warnings, effective, .. }) => {
            let given = effective.iter().filter(|one| one.origin != Origin::Default).count();
            let mut findings = vec![ok(CHECK, format!("{given} given, no mistake"))];
            findings.extend(warnings.iter().map(told));
            findings.extend(secrets(&config.auth));
            findings.extend(files(effective));
            findings
        }
    }
}

fn secrets(auth: &AuthConfig) -> Vec<Finding> {
    const CHECK: &str = "secrets";
    let mut findings = Vec::new();
    for (name, secret) in [("JWT_SECRET", &auth.jwt_secret), ("ADMIN_TOKEN", &auth.admin_token)] {
        findings.push(match secret {
            None => {
                ok(CHECK, format!("{name}: made at the first start and kept in the storage folder"))
            }
            Some(secret) => match weakness(secret) {
                None => {
                    let bytes = secret.expose_secret().len();
                    ok(CHECK, format!("{name}: {bytes} bytes"))
                }
                Some(why) => fail(
                    CHECK,
                    format!("{name} {why}: whoever guesses it is everybody"),
                    "make another one: openssl rand -base64 48",
                ),
            },
        });
    }
    if let (Some(jwt), Some(admin)) = (&auth.jwt_secret, &auth.admin_token)
        && jwt.expose_secret() == admin.expose_secret()
    {
        findings.push(fail(
            CHECK,
            "JWT_SECRET and ADMIN_TOKEN are the same: whoever administers can sign as any user",
            "make one of them anew: openssl rand -base64 48",
        ));
    }
    findings
}

/// Why a secret is none.
fn weakness(secret: &SecretString) -> Option<&'static str> {
    let text = secret.expose_secret();
    let lower = text.to_lowercase();
    let mut characters: Vec<char> = text.chars().collect();
    let length = characters.len();
    // It begins again somewhere before its middle, and goes on like that.
    let repeats =
        (1..=length / 2).any(|period| characters[period..] == characters[..length - period]);
    characters.sort_unstable();
    characters.dedup();
    if lower.starts_with('<') || PLACEHOLDERS.iter().any(|word| lower.contains(word)) {
        Some("looks like the placeholder of an example")
    } else if repeats {
        Some("is one text, repeated")
    } else if characters.len() < DISTINCT_MIN {
        Some("has hardly any different characters")
    } else {
        None
    }
}

/// Files that hold secrets and that everybody may read.
fn files(effective: &[Effective]) -> Vec<Finding> {
    let mut seen: Vec<&Path> = Vec::new();
    let mut findings = Vec::new();
    for one in effective.iter().filter(|one| one.setting.is_secret() && !one.text.is_empty()) {
        let (Origin::File(path) | Origin::SecretFile(path)) = &one.origin else { continue };
        if seen.contains(&&**path) {
            continue;
        }
        seen.push(path);
        let open = fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0);
        if open {
            let path = path.display();
            findings.push(warn(
                "secrets",
                format!(
                    "{path} holds {} and is open to all users of this machine",
                    one.setting.name
                ),
                format!("chmod o-rwx {path}"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_or_repeated_is_no_secret() {
        let weak = |text: &str| weakness(&text.to_owned().into()).is_some();
        for bad in [
            "your-secret-key",
            "<at least 32 bytes of something>",
            "please-CHANGEME-before-production-0",
            "loadtest-loadtest-loadtest-loadtest",
            "0123456701234567012345670123456701",
            "aaaaaaaabbbbbbbbccccccccddddddddab",
        ] {
            assert!(weak(bad), "{bad}");
        }
        for good in [
            "V4nPq0mJ8sTz1LxYd7RkHw3CfBgUeAo2",
            "6b1f0c9e2d7a4835f1e0b9c8d7a65432",
            "correct-horse-battery-staple-0123456789",
        ] {
            assert!(!weak(good), "{good}");
        }
    }

    #[test]
    fn one_secret_for_two_ends_is_told() {
        let secret = || Some(SecretString::from("V4nPq0mJ8sTz1LxYd7RkHw3CfBgUeAo2"));
        let loaded = crate::config::Config::load(&Default::default(), None).unwrap();
        let auth = AuthConfig { jwt_secret: secret(), admin_token: secret(), ..loaded.config.auth };
        let findings = secrets(&auth);
        assert_eq!(findings.last().unwrap().status, Status::Fail);
        assert!(!format!("{findings:?}").contains("V4nPq0"));
    }
}
