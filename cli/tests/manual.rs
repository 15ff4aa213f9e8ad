//! `sr manual`: what packages install.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Desk, sr};

#[test]
fn each_command_has_a_page() {
    let desk = Desk::new();
    let folder = desk.path("new/manual");
    sr(["manual", &folder]).ok();
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let help = sr(["--help"]).ok().stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<_> = commands
        .map_while(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.contains(&"upscale") && !commands.contains(&"manual"));
    let (all, completions) = (read("sr.1"), read("sr.bash"));
    for command in &commands {
        let page = read(&format!("sr-{command}.1"));
        assert!(page.contains(".SH OPTIONS"), "{page}");
        assert!(all.contains(&format!("sr\\-{command}(1)")), "{all}");
        assert!(completions.contains(&format!("sr,{command})")), "{command}");
    }
    assert!(read("sr-upscale.1").contains("\\-\\-skip\\-existing"));
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let desk = Desk::new();
    let file = desk.path("file");
    std::fs::write(&file, "").unwrap();
    sr(["manual", &file]).fails(1, &["cannot write to", &file]);
}
