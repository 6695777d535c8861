//! Every scenario against the fake server; and each of its faults, which must be seen.

use std::sync::{Arc, atomic::AtomicBool};

use clap::Parser;

use crate::{
    cli::Cli,
    fake::{Fake, Fault},
    report::Report,
};

fn run(fault: Fault, line: &str) -> Report {
    let fake = Fake::start(fault);
    let url = format!("http://{}", fake.address);
    let mut arguments = vec!["loadtest", "--url", &url, "--admin-url", &url];
    arguments.extend(["--jwt-secret", "s3cret", "--service-key", "phk_x", "--quiet"]);
    arguments.extend(["--grace", "300ms", "--time-limit", "60s"]);
    arguments.extend(line.split(' '));
    let cli = Cli::parse_from(arguments);
    super::run(&cli, line.to_owned(), Arc::new(AtomicBool::new(false))).unwrap()
}

#[test]
fn an_interrupted_run_ends_with_a_report() {
    let fake = Fake::start(Fault::None);
    let url = format!("http://{}", fake.address);
    let line = ["loadtest", "--url", &url, "--admin-url", "off", "--jwt-secret", "s", "--quiet"];
    let cli = Cli::parse_from(line.into_iter().chain(["send", "--duration", "1h"]));
    let report = super::run(&cli, String::new(), Arc::new(AtomicBool::new(true))).unwrap();
    assert_eq!(report.get("lost"), Some(0.0));
    let machine = crate::machine::Machine::read();
    assert!(report.text(&machine, None).contains("ended by Ctrl-C"));
}

fn clean(line: &str) -> Report {
    let report = run(Fault::None, line);
    assert_eq!(report.missed(), Vec::<String>::new(), "{line}");
    report
}

#[test]
fn connect_opens_and_holds() {
    let report = clean("connect -N 50 --hold 100ms --touch");
    assert_eq!(report.get("connects.ready"), Some(50.0));
    assert_eq!(report.get("handshake.count"), Some(50.0));
    assert_eq!(report.get("deliveries"), Some(50.0));
    assert!(report.get("hold.seconds").unwrap() >= 0.1);
}

#[test]
fn connect_on_a_schedule_reads_its_backlog() {
    let report = clean("connect -N 40 --rate 400 --backlog 3 --codec msgpack");
    assert_eq!(report.get("wire.replayed"), Some(120.0));
    assert_eq!(report.get("deliveries"), Some(120.0));
    assert!(report.get("seconds").unwrap() > 0.09, "40 connects at 400/s");
}

#[test]
fn send_measures_and_finds_nothing_wrong() {
    for codec in ["json", "msgpack"] {
        let report = clean(&format!(
            "send -U 20 --devices 2 --rate 500 --duration 400ms --warmup 100ms --touch --ack-every 2 --codec {codec}"
        ));
        let sends = report.get("sends.accepted").unwrap();
        assert!(sends > 1.0, "more than the one that touched everybody");
        assert_eq!(report.get("deliveries"), Some((sends - 1.0) * 2.0));
        assert!(report.get("push.p50_ms").unwrap() > 0.0);
        assert!(report.get("push.count").unwrap() < report.get("deliveries").unwrap());
    }
}

#[test]
fn send_in_a_closed_loop() {
    let report = clean("send -U 10 --rate max --duration 200ms --warmup 0ms -C 4");
    assert!(report.get("rate").unwrap() > 100.0);
    assert_eq!(report.get("deliveries"), report.get("sends.accepted"));
}

#[test]
fn batches_and_many_recipients() {
    let report = clean("batch -U 20 -B 10 --duration 200ms -C 2");
    assert_eq!(report.get("deliveries"), report.get("sends.accepted"));
    assert!(report.get("rate_files_filled").unwrap() > 0.0);
    let report = clean("batch -U 20 -B 1 -K 15 --duration 200ms -C 2");
    assert_eq!(report.get("deliveries"), report.get("sends.accepted").map(|sends| sends * 15.0));
}

#[test]
fn broadcasts_live_and_as_a_backlog() {
    let report = clean("broadcast -U 30 -M 6 --burst 3");
    assert_eq!(report.get("deliveries"), Some(180.0));
    assert_eq!(report.get("complete.count"), Some(6.0));
    let report = clean("broadcast -U 30 -M 6 --mode backlog");
    assert_eq!(report.get("deliveries"), Some(180.0));
    assert_eq!(report.get("wire.replayed"), Some(180.0));
}

#[test]
fn a_storm_loses_nothing() {
    let report = clean(
        "storm -U 30 --rate 400 --before 100ms --after 100ms --backoff 300ms --backoff-max 1s",
    );
    assert_eq!(report.get("storm.back"), Some(30.0));
    assert!(report.get("wire.replayed").unwrap() > 0.0, "sends went on while they were away");
}

#[test]
fn slow_readers_are_complete_in_the_end() {
    let report =
        clean("slow -U 20 -S 5 --rate 500 --baseline 200ms --stalled 300ms --slow-share 0.5");
    assert!(report.get("slow.owed_when_reading_again").unwrap() > 0.0);
    assert!(report.get("baseline.count").unwrap() > 0.0);
}

#[test]
fn every_planted_fault_is_seen() {
    for (fault, figure) in [
        (Fault::Forget, "lost"),
        (Fault::Repeat, "duplicated"),
        (Fault::Leak, "foreign"),
        (Fault::Skip, "reordered"),
        (Fault::StoreTwice, "stored_twice"),
        (Fault::RefuseAndDeliver, "refused_arrived"),
        (Fault::Truncate, "corrupt"),
        (Fault::RefuseAll, "lost"),
    ] {
        let report = run(fault, "send -U 3 --rate 400 --duration 200ms --warmup 0ms");
        assert!(report.get(figure).unwrap() > 0.0, "{fault:?} shows in {figure}");
        assert!(report.missed().iter().any(|miss| miss.starts_with(figure)), "{fault:?}");
    }
}

#[test]
fn another_machine_is_refused() {
    let cli =
        Cli::parse_from(["loadtest", "--url", "http://192.0.2.1:80", "--jwt-secret", "s", "send"]);
    let result = super::run(&cli, String::new(), Arc::new(AtomicBool::new(false)));
    assert!(result.err().unwrap().to_string().contains("--allow-remote"));
}

#[test]
fn a_rollout_needs_two_nodes_and_their_processes() {
    let fake = Fake::start(Fault::None);
    let url = format!("http://{}", fake.address);
    let line = ["loadtest", "--url", &url, "--url", &url, "--admin-url", "off", "--quiet"];
    let rest = ["--jwt-secret", "s", "--server-pid", "4000000000", "rollout", "-U", "2"];
    let cli = Cli::parse_from(line.into_iter().chain(rest));
    let refused = super::run(&cli, String::new(), Arc::new(AtomicBool::new(false)));
    assert!(refused.err().unwrap().to_string().contains("--server-pid of each"));
    assert!(crate::machine::terminate(0).is_err());
    assert!(crate::machine::terminate(u32::MAX).is_err());
}
