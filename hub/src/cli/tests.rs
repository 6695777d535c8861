use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent_and_every_command_has_an_example() {
    let mut command = Cli::command();
    command.build();
    command.clone().debug_assert();
    fn visit(command: &clap::Command) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            if sub.has_subcommands() {
                visit(sub);
                continue;
            }
            let help = sub.clone().render_help().to_string();
            assert!(help.contains("Example"), "{}", sub.get_name());
        }
    }
    visit(&command);
}

#[test]
fn the_long_help_lists_every_setting() {
    let help = Cli::command().render_long_help().to_string();
    for setting in crate::config::table::ALL {
        assert!(help.contains(setting.name), "{}", setting.name);
    }
}

#[test]
fn serving_is_what_happens_without_a_command() {
    assert!(Cli::try_parse_from(["pushhub"]).unwrap().command.is_none());
    assert!(Cli::try_parse_from(["pushhub", "tail"]).is_err(), "tail needs a user or a token");
    assert!(Cli::try_parse_from(["pushhub", "tail", "--user", "a", "--token", "b"]).is_err());
}
