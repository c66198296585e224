//! Man pages and completions of a program, made from what it tells clap about its arguments.
//!
//! A test in each program calls [`write()`]: the test has the arguments, which are the program's own, and what is shipped carries
//! none of this. `packaging/build` runs those tests to get the files.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Names the directory for pages to stay in; without it they are made, and not kept.
const DIRECTORY: &str = "PAGES";

/// Writes a page for the program and for each of its commands to `man/`, and completions to `bash/`, `zsh/` and `fish/`, below the
/// directory that the variable `PAGES` names. `section` is the manual's: "1" for what everybody runs, "8" for administrators.
///
/// # Errors
/// A file cannot be written.
pub fn write(command: Command, section: &str) -> io::Result<()> {
    match env::var_os(DIRECTORY) {
        Some(directory) => write_below(Path::new(&directory), command, section),
        None => render(command, section).map(drop),
    }
}

fn write_below(directory: &Path, command: Command, section: &str) -> io::Result<()> {
    for (name, text) in render(command, section)? {
        let path = directory.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    Ok(())
}

fn render(command: Command, section: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let name = command.get_name().to_owned();
    let source = format!("Instance Connect {}", command.get_version().unwrap_or_default());
    // Else each command would have a second page, for the help of it.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut files = Vec::new();
    add_pages(&mut files, &command, section, &source)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, &name, &mut text);
        files.push((Path::new(&shell.to_string()).join(completion_file(shell, &name)), text));
    }
    Ok(files)
}

fn add_pages(
    files: &mut Vec<(PathBuf, Vec<u8>)>,
    command: &Command,
    section: &str,
    source: &str,
) -> io::Result<()> {
    let page = Man::new(command.clone()).section(section).source(source).manual("Instance Connect");
    let mut text = Vec::new();
    page.render(&mut text)?;
    files.push((Path::new("man").join(page.get_filename()), text));
    let mut shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.try_for_each(|command| add_pages(files, command, section, source))
}

/// Where each shell looks for them by the program's name.
fn completion_file(shell: Shell, name: &str) -> OsString {
    match shell {
        Shell::Zsh => format!("_{name}"),
        Shell::Fish => format!("{name}.fish"),
        _ => name.to_owned(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn a_page_for_each_command_that_is_shown() -> io::Result<()> {
        let open = Command::new("open")
            .about("Opens a door")
            .arg(Arg::new("wide").long("wide").help("As far as it goes"));
        let hidden = Command::new("for-itself").hide(true);
        let files = render(Command::new("door").version("7").subcommand(open).subcommand(hidden), "8")?;
        let names: Vec<_> = files.iter().map(|(name, _)| name.to_string_lossy()).collect();
        assert_eq!(names, ["man/door.8", "man/door-open.8", "bash/door", "zsh/_door", "fish/door.fish"]);
        for said in ["Opens a door", "wide", "As far as it goes", "Instance Connect 7"] {
            assert!(String::from_utf8_lossy(&files[1].1).contains(said), "{said}");
        }
        for (name, completions) in &files[2..] {
            assert!(String::from_utf8_lossy(completions).contains("wide"), "{}", name.display());
        }
        Ok(())
    }
}
