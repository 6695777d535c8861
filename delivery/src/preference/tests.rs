use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, date},
    tz::TimeZone,
};
use proptest::prelude::*;
use protocol::{ChannelId, TenantId, Time, UserId, message::BodyFacts};
use serde_json::{Value, json};

use super::{quiet::Clocked, *};

fn checked(value: Value) -> Result<Preferences, Vec<String>> {
    let request: PreferencesRequest = serde_json::from_value(value).unwrap();
    let said = |problems: Vec<protocol::FieldProblem>| {
        problems.into_iter().map(|problem| problem.path).collect()
    };
    request.check().map_err(said)
}

fn quiet(changes: Value) -> Preferences {
    let mut hours = json!({"start": "22:00", "end": "07:00"});
    for (name, change) in changes.as_object().unwrap() {
        hours[name] = change.clone();
    }
    checked(json!({"quiet_hours": hours})).unwrap()
}

/// What the clock of a zone shows, as a moment.
fn at(zone: &str, shown: DateTime) -> Time {
    let zone = TimeZone::get(zone).unwrap();
    Time::from_millis(
        zone.to_ambiguous_zoned(shown).compatible().unwrap().timestamp().as_millisecond(),
    )
}

fn facts(channel: Option<&str>, priority: u8) -> BodyFacts {
    let channel_id = channel.map(|id| ChannelId::new(id).unwrap());
    BodyFacts { channel_id, priority, ..BodyFacts::default() }
}

#[test]
fn what_is_kept_is_what_was_said_with_repeats_left_out() {
    let preferences = checked(json!({
        "muted_channels": ["b", "a", "b"],
        "quiet_hours": {"start": "22:00", "end": "07:00", "days": ["sun", "mon", "sun"]},
        "languages": ["zh_CN", "en", "ZH-cn"],
    }))
    .unwrap();
    let kept = json!({
        "muted_channels": ["b", "a"],
        "quiet_hours": {"enabled": true, "start": "22:00", "end": "07:00", "days": ["mon", "sun"],
            "time_zone": null, "allow_priority": 9},
        "languages": ["zh-CN", "en"],
    });
    assert_eq!(serde_json::to_value(&preferences).unwrap(), kept);
    assert_eq!(serde_json::from_value::<Preferences>(kept).unwrap(), preferences);
    assert_eq!(checked(json!({})), Ok(Preferences::default()));
    assert_eq!(serde_json::from_str::<Preferences>("{}").unwrap(), Preferences::default());
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let many: Vec<String> = (0..10_000).map(|number| format!("c{number}")).collect();
    assert_eq!(checked(json!({"muted_channels": many})), Err(vec!["muted_channels".to_owned()]));
    let problems = checked(json!({
        "muted_channels": ["ok", "\n"],
        "quiet_hours": {"start": "25:00", "end": "7:00", "days": ["someday"], "time_zone": "Mars/Base",
            "allow_priority": 7},
        "languages": ["12", "en", "fr", "de", "it", "es", "pt", "nl", "sv"],
    }))
    .unwrap_err();
    assert_eq!(
        problems,
        [
            "muted_channels[1]",
            "languages",
            "languages[0]",
            "quiet_hours.start",
            "quiet_hours.end",
            "quiet_hours.days[0]",
            "quiet_hours.time_zone",
            "quiet_hours.allow_priority",
        ]
    );
    for (changes, path) in [
        (json!({"start": "07:00", "end": "07:00"}), "quiet_hours.end"),
        (json!({"start": "24:00", "end": "07:00"}), "quiet_hours.start"),
        (json!({"start": "22:60", "end": "07:00"}), "quiet_hours.start"),
        (json!({"start": "٢٢:00", "end": "07:00"}), "quiet_hours.start"),
        (json!({"start": "22:00", "end": "07:00", "days": []}), "quiet_hours.days"),
    ] {
        assert_eq!(checked(json!({"quiet_hours": changes})), Err(vec![path.to_owned()]));
    }
}

#[test]
fn a_muted_channel_is_silent_whatever_the_priority_and_others_are_not() {
    let preferences = checked(json!({"muted_channels": ["news", "chat"]})).unwrap();
    let silence = Silence::new(1, &preferences, "");
    let of = |channel, priority| silence.of(&facts(channel, priority), || panic!("not asked"));
    assert_eq!(of(Some("news"), 10), Some(Reason::Muted));
    assert_eq!(of(Some("chat"), 1), Some(Reason::Muted));
    assert_eq!(of(Some("ops"), 1), None);
    assert_eq!(of(None, 1), None);
}

#[test]
fn quiet_hours_go_over_midnight_and_let_through_what_is_urgent() {
    let silence = Silence::new(1, &quiet(json!({"time_zone": "Asia/Shanghai"})), "Europe/Berlin");
    let of = |hour, minute, priority| {
        let shown = date(2025, 1, 15).at(hour, minute, 0, 0);
        silence.of(&facts(None, priority), || at("Asia/Shanghai", shown))
    };
    assert_eq!(of(21, 59, 5), None);
    assert_eq!(of(22, 0, 5), Some(Reason::QuietHours));
    assert_eq!(of(3, 0, 8), Some(Reason::QuietHours));
    assert_eq!(of(3, 0, 9), None);
    assert_eq!(of(6, 59, 1), Some(Reason::QuietHours));
    assert_eq!(of(7, 0, 1), None);
    let off = Silence::new(2, &quiet(json!({"enabled": false})), "");
    assert_eq!(off.of(&facts(None, 1), || panic!("not asked")), None);
    assert!(off.is_newer_than(&silence) && !silence.is_newer_than(&off));
}

#[test]
fn without_a_zone_of_their_own_they_go_by_the_profiles_and_else_by_utc() {
    let hours = quiet(json!({}));
    let night_in = |of_profile, zone| {
        let silence = Silence::new(1, &hours, of_profile);
        silence.of(&facts(None, 5), || at(zone, date(2025, 1, 15).at(23, 0, 0, 0))).is_some()
    };
    assert!(night_in("America/New_York", "America/New_York"));
    assert!(!night_in("", "Asia/Shanghai"), "it is 15:00 UTC");
    assert!(night_in("", "UTC"));
    assert!(night_in("Nowhere/Gone", "UTC"));
}

#[test]
fn days_are_those_on_which_they_begin() {
    let silence = Silence::new(1, &quiet(json!({"time_zone": "UTC", "days": ["fri"]})), "");
    let of = |day, hour| {
        silence.of(&facts(None, 5), || at("UTC", date(2025, 1, day).at(hour, 0, 0, 0))).is_some()
    };
    // The 17th of January 2025 is a Friday.
    assert_eq!(
        [of(16, 23), of(17, 3), of(17, 23), of(18, 3), of(18, 23)],
        [false, false, true, true, false]
    );
    let day = json!({"time_zone": "UTC", "days": ["sat"], "start": "00:00", "end": "24:00"});
    let silence = Silence::new(1, &quiet(day), "");
    let of = |shown: DateTime| silence.of(&facts(None, 5), || at("UTC", shown)).is_some();
    assert!(of(date(2025, 1, 18).at(0, 0, 0, 0)) && of(date(2025, 1, 18).at(23, 59, 59, 0)));
    assert!(!of(date(2025, 1, 17).at(23, 59, 59, 0)) && !of(date(2025, 1, 19).at(0, 0, 0, 0)));
}

#[test]
fn where_clocks_are_changed_they_go_by_what_the_clock_shows() {
    // Berlin, 2025: on the 30th of March 02:00 is 03:00, on the 26th of October 03:00 is 02:00.
    let hours = json!({"time_zone": "Europe/Berlin", "start": "02:00", "end": "03:00"});
    let silence = Silence::new(1, &quiet(hours), "");
    let quiet_minutes = |from: &str| {
        let from: Timestamp = from.parse().unwrap();
        let minutes = (0..6 * 60).filter(|minute| {
            let at = Time::from_millis((from + minute.minutes()).as_millisecond());
            silence.of(&facts(None, 5), || at).is_some()
        });
        minutes.count()
    };
    assert_eq!(quiet_minutes("2025-03-29T22:00:00Z"), 0, "there is no such hour");
    assert_eq!(quiet_minutes("2025-10-25T22:00:00Z"), 120, "it comes twice");
    assert_eq!(quiet_minutes("2025-06-25T22:00:00Z"), 60);
}

const ZONES: [&str; 7] = [
    "UTC",
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Australia/Lord_Howe",
];

/// Whether one of the ranges that begin on the wanted days has it in it: the same, said otherwise.
fn expected(hours: &QuietHours, shown: DateTime) -> bool {
    let minutes = |date: Date, time: ClockTime| {
        date.at(0, 0, 0, 0).checked_add(i64::from(time.minutes()).minutes()).unwrap()
    };
    (0..=1).any(|back: i64| {
        let day = shown.date().checked_sub(back.days()).unwrap();
        let last = if hours.end <= hours.start { day.tomorrow().unwrap() } else { day };
        hours.days.contains(&Day::from(day.weekday()))
            && (minutes(day, hours.start)..minutes(last, hours.end)).contains(&shown)
    })
}

proptest! {
    #[test]
    fn it_is_quiet_exactly_within_the_ranges_of_the_clock(
        zone in 0..ZONES.len(),
        start in 0_u16..1_440,
        end in 0_u16..=1_440,
        days in proptest::sample::subsequence(Day::ALL.to_vec(), 1..=7),
        millis in 1_577_836_800_000_i64..1_893_456_000_000,
    ) {
        prop_assume!(start != end);
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60).parse().unwrap();
        let hours = QuietHours {
            enabled: true,
            start: time(start),
            end: time(end),
            days,
            time_zone: Some(ZONES[zone].to_owned()),
            allow_priority: 9,
        };
        let clocked = Clocked::new(&hours, "").unwrap();
        let at = Time::from_millis(millis);
        let shown = TimeZone::get(ZONES[zone]).unwrap()
            .to_datetime(Timestamp::from_millisecond(millis).unwrap());
        prop_assert_eq!(clocked.are_at(at), expected(&hours, shown));
        let text = serde_json::to_string(&hours).unwrap();
        prop_assert_eq!(serde_json::from_str::<QuietHours>(&text).unwrap(), hours);
    }

    #[test]
    fn times_of_the_clock_are_read_as_they_are_written(text in "[0-9:]{0,6}") {
        if let Ok(time) = text.parse::<ClockTime>() {
            prop_assert_eq!(time.to_string(), text);
        }
    }
}

#[test]
fn languages_and_who_can_be_silent_are_known_of_whoever_said_so() {
    let known = Known::default();
    let tenant = TenantId::default();
    let id = |user: &str| UserId::new(user).unwrap();
    let speaks = |user: &str| {
        known.languages(&tenant, &id(user)).map(|all| all.iter().map(ToString::to_string).collect())
    };
    let english = checked(json!({"languages": ["en-GB", "zh_CN"]})).unwrap();
    assert!(known.learn(&tenant, &id("ann"), &english, "fr"));
    assert!(known.learn(&tenant, &id("bob"), &Preferences::default(), "fr"));
    let muted = checked(json!({"muted_channels": ["news"]})).unwrap();
    assert!(known.learn(&tenant, &id("eve"), &muted, ""));
    assert_eq!(speaks("ann"), Some(vec!["en-gb".to_owned(), "zh-cn".to_owned()]));
    assert_eq!(speaks("bob"), Some(vec!["fr".to_owned()]));
    assert_eq!((speaks("eve"), speaks("who")), (None, None));
    let other = TenantId::new("acme").unwrap();
    assert_eq!(known.languages(&other, &id("ann")), None);
    let can = |user: &str| known.can_silence(&tenant, &id(user));
    assert!(can("eve") && !can("ann") && !can("who"));
    assert_eq!(known.len(), 3);
    assert!(known.learn(&tenant, &id("eve"), &Preferences::default(), ""));
    assert!(!can("eve"));
    assert_eq!(known.len(), 2, "who says nothing any more costs nothing");
}

#[test]
fn there_are_so_many_lists_of_languages_and_no_more() {
    let known = Known::default();
    let tenant = TenantId::default();
    let list = |number: usize| Preferences {
        languages: vec![format!("en-x-{number}")],
        ..Preferences::default()
    };
    let id = |number: usize| UserId::new(format!("u{number}")).unwrap();
    for number in 0..LANGUAGE_LISTS_MAX {
        assert!(known.learn(&tenant, &id(number), &list(number), ""));
    }
    assert!(!known.learn(&tenant, &id(0), &list(LANGUAGE_LISTS_MAX), ""));
    assert_eq!(known.languages(&tenant, &id(0)), None);
    assert!(known.learn(&tenant, &id(0), &list(1), ""), "one that is kept already");
}
