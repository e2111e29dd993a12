//! The rig's own processes, for its tests and for trying things by hand:
//! `rig-actor peer --nick N --port P`, `rig-actor sentinel --display D --x X --y Y`, `rig-actor desk DIRECTORY`.

use std::io::{Read, Write};
use std::process::ExitCode;

use autoreply_rig::{DeskPlan, Fault, UNSET, peer, sentinel};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["peer", "--nick", nick, "--port", port] => match port.parse() {
            Ok(port) => peer::run(nick, port),
            Err(_) => complain("the port must be a number"),
        },
        ["sentinel", "--display", display, "--x", x, "--y", y] => match (x.parse(), y.parse()) {
            (Ok(x), Ok(y)) => sentinel::run(display, x, y),
            _ => complain("the place must be two numbers"),
        },
        ["desk", directory] => match hold_desk(directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => complain(&fault.to_string()),
        },
        _ => complain("use: rig-actor peer --nick N --port P | sentinel --display D --x X --y Y | desk DIRECTORY"),
    }
}

fn complain(what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{what}");
    ExitCode::from(2)
}

/// Keeps a desk until standard input ends; prints what a shell needs to see it, then its mark.
fn hold_desk(directory: &str) -> Result<(), Fault> {
    let desk = DeskPlan::new(directory).start()?;
    let mut text: String = desk.env().iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    text.push_str(&format!(
        "unset {}\nexport RIG_IRC_PORT={}\n# up: {}\n",
        UNSET.join(" "),
        desk.irc_port(),
        desk.mark()
    ));
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Fault::io("printing the environment"))?;
    let mut rest = Vec::new();
    std::io::stdin().lock().read_to_end(&mut rest).map_err(Fault::io("waiting for the end of the input"))?;
    Ok(())
}
