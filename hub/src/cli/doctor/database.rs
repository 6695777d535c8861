//! PostgreSQL, which nodes share.

use delivery::{
    Tables,
    control::Control,
    store::postgres::{
        CONNECTIONS_BESIDE, Examined, PostgresConfig, ProbeError, connecting, examine as look,
        examine_standby, examine_tables, probe,
    },
    webhook::Webhooks,
};

use super::{
    clock::compare,
    folder::size,
    report::{Finding, causes, fail, ok, warn},
};
use crate::config::Config;

/// A standby that is further behind answers hardly any list: the primary does.
const BEHIND_MAX: i64 = 64 << 20;

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "database";
    let Some(database) = &config.cluster.database else { return Vec::new() };
    let at = database.describe();
    if let Err(error) = probe(database).await {
        let advice = match &error {
            ProbeError::Away { .. } | ProbeError::Silent { .. } => {
                "see whether it runs and is reachable from here; a node waits for it"
            }
            ProbeError::Address(_) => "see DATABASE_URL",
            ProbeError::Refused { .. } => {
                "see user, password, database and sslmode of DATABASE_URL, and pg_hba.conf"
            }
            ProbeError::ReadOnly { .. } => "let DATABASE_URL name the primary",
            ProbeError::TooOld { .. } => "upgrade it",
        };
        return vec![fail(CHECK, causes(&error), advice)];
    }
    let found = match look(database).await {
        Ok(found) => found,
        Err(error) => {
            let advice = "see what its log says";
            return vec![fail(CHECK, format!("{at}: {}", causes(&error)), advice)];
        }
    };
    let mut findings = vec![ok(CHECK, format!("{at}: PostgreSQL {}, a primary", found.version))];
    let (tables, are_current) = tables(database).await;
    findings.extend(tables);
    findings.push(rights(&found, are_current));
    findings.extend(durability(&found));
    findings.push(connections(database, &found));
    findings.push(compare(
        "clock.database",
        "PostgreSQL's, by which nodes go,",
        found.clock_ahead_micros,
        found.round_trip,
    ));
    findings.extend(standby(database).await);
    findings
}

/// The tables of each part, and whether a start has nothing to do there.
async fn tables(database: &PostgresConfig) -> (Vec<Finding>, bool) {
    const CHECK: &str = "database.tables";
    let store = examine_tables(database).await.map_err(|error| causes(&error));
    let connecting = connecting(database).map_err(|error| causes(&error));
    let rest = tokio::task::spawn_blocking(move || {
        let (driver, tls) = connecting?;
        let control = Control::examine_postgres(driver.clone(), tls.clone());
        let webhooks = Webhooks::examine_postgres(driver, tls);
        Ok((control.map_err(|error| causes(&error)), webhooks.map_err(|error| causes(&error))))
    })
    .await
    .unwrap_or_else(|error| Err(error.to_string()));
    let (control, webhooks) = match rest {
        Ok(both) => both,
        Err(error) => (Err(error.clone()), Err(error)),
    };
    let parts = [("store", store), ("control data", control), ("webhooks", webhooks)];
    let are_current =
        parts.iter().all(|(_, found)| found.as_ref().is_ok_and(|tables| tables.is_current));
    let finding = |(part, found): (&str, Result<Tables, String>)| match found {
        Ok(Tables { version, is_current: true }) => ok(CHECK, format!("{part}: version {version}")),
        Ok(Tables { version: 0, .. }) => warn(
            CHECK,
            format!("{part}: there are none yet"),
            "the first node makes them, or pushhub migrate",
        ),
        Ok(Tables { version, .. }) => warn(
            CHECK,
            format!("{part}: version {version} is older than this build's"),
            "the next node that starts brings them up, or pushhub migrate",
        ),
        Err(why) => {
            fail(CHECK, format!("{part}: {why}"), "take the build that made them, or a newer one")
        }
    };
    (parts.into_iter().map(finding).collect(), are_current)
}

fn rights(found: &Examined, are_current: bool) -> Finding {
    const CHECK: &str = "database.rights";
    let advice = "GRANT ALL ON SCHEMA public TO the user, or let it own the database";
    if found.denied > 0 {
        let found = format!("{} tables may not be read and written by the user", found.denied);
        fail(CHECK, found, "let one user make the tables and run the nodes, or GRANT the rest")
    } else if found.may_create {
        ok(CHECK, "the user may read, write and make tables")
    } else if are_current {
        warn(CHECK, "the user may not make tables, which the next upgrade needs", advice)
    } else {
        fail(CHECK, "the user may not make tables, and some are missing", advice)
    }
}

fn durability(found: &Examined) -> Vec<Finding> {
    const CHECK: &str = "database.durability";
    if !found.fsync {
        return vec![fail(
            CHECK,
            "fsync is off: what was acknowledged is lost, or all of it damaged, when the power is",
            "ALTER SYSTEM SET fsync = on, and a reload",
        )];
    }
    let mut findings = Vec::new();
    if !found.full_page_writes {
        findings.push(warn(
            CHECK,
            "full_page_writes is off: a page that was half written stays so",
            "ALTER SYSTEM SET full_page_writes = on, unless the file system writes pages whole",
        ));
    }
    let standbys = match &*found.synchronous_standbys {
        "" => "no standby is waited for",
        _ => "standbys are waited for",
    };
    findings.push(ok(
        CHECK,
        format!(
            "fsync is on, synchronous_commit is on for nodes whatever the server says, {standbys}"
        ),
    ));
    findings
}

fn connections(database: &PostgresConfig, found: &Examined) -> Finding {
    const CHECK: &str = "database.connections";
    let each = (database.connections + CONNECTIONS_BESIDE) as i64;
    let nodes = found.nodes.max(1);
    let needed = each.saturating_mul(nodes);
    let text = format!(
        "{nodes} node(s) with {each} each need {needed}; {} of {} are in use now",
        found.connections_used, found.connections_max
    );
    if needed > found.connections_max {
        fail(CHECK, text, "raise max_connections, or lower DATABASE_CONNECTIONS")
    } else if needed + each > found.connections_max {
        let text = format!("{text}; another node would not fit, also not in a rollout");
        warn(CHECK, text, "raise max_connections, or lower DATABASE_CONNECTIONS")
    } else {
        ok(CHECK, text)
    }
}

async fn standby(database: &PostgresConfig) -> Option<Finding> {
    const CHECK: &str = "database.standby";
    let advice = "see DATABASE_REPLICA_URL; meanwhile the primary answers all lists";
    Some(match examine_standby(database).await {
        Ok(None) => return None,
        Err(error) => warn(CHECK, causes(&error), advice),
        Ok(Some(found)) if !found.is_ours => {
            warn(CHECK, "it is of another database than DATABASE_URL names", advice)
        }
        Ok(Some(found)) if !found.follows => {
            warn(CHECK, "it follows nobody: it is a primary", advice)
        }
        Ok(Some(found)) => match found.behind_bytes {
            Some(behind) if behind <= BEHIND_MAX => {
                let behind = u64::try_from(behind).unwrap_or_default();
                ok(CHECK, format!("{} of the log behind", size(behind)))
            }
            Some(behind) => {
                let behind = size(u64::try_from(behind).unwrap_or_default());
                warn(CHECK, format!("{behind} of the log behind"), "see why it is slow")
            }
            None => warn(CHECK, "it does not say how far it is", advice),
        },
    })
}
