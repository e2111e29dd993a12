//! The other end of the conversation: a process of its own that speaks IRC and keeps every line it gets.
//!
//! It is the only judge of what arrived: nothing is merged, skipped or corrected.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::child::{Kin, tied};
use crate::lines::{Collected, report};
use crate::{Fault, irc, now_ms};

/// What a peer can be told, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Send one message.
    Say {
        /// The nick or channel.
        to: String,
        /// The text, one line.
        text: String,
    },
    /// Ask the server whether a nick is there.
    Look {
        /// Whom to look for.
        nick: String,
    },
    /// Leave.
    Quit,
}

/// One message as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// When its line had been read, in milliseconds since 1970.
    pub at_ms: u64,
    /// PRIVMSG or NOTICE.
    pub command: String,
    /// The nick that sent it, or the server's name.
    pub from: String,
    /// To whom: this peer's nick, or a channel.
    pub target: String,
    /// The text.
    pub text: String,
    /// Whether the bytes were UTF-8; otherwise the text has U+FFFD in place of what was not.
    pub exact: bool,
}

/// What a peer reports, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The server has accepted the nick.
    Connected {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// The server's name.
        server: String,
    },
    /// A message or notice arrived.
    Received(Received),
    /// A message has been handed to the network.
    Sent {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// To whom.
        to: String,
        /// The text.
        text: String,
    },
    /// The answer to [`Command::Look`].
    NickSeen {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// Those asked for who are there, as the server wrote them; empty when none is.
        online: Vec<String>,
    },
    /// A command was not carried out.
    Refused {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// Why.
        reason: String,
    },
    /// Any other line, as it came.
    Other {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// The line.
        line: String,
    },
}

/// Is the peer: connects as `nick` to the server on loopback, obeys standard input, reports on standard output.
/// Ends when it is told to, when its input ends, or when the server goes away (then with failure).
#[must_use]
pub fn run(nick: &str, port: u16) -> ExitCode {
    match hold(nick, port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the peer's log file.
            let _ = writeln!(std::io::stderr(), "the peer {nick} ended: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(nick: &str, port: u16) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_nodelay(true)?;
    server.write_all(format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\n").as_bytes())?;
    let commands = server.try_clone()?;
    std::thread::spawn(move || {
        let code = match obey(commands) {
            Ok(()) => 0,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "the peer could not obey: {error}");
                1
            }
        };
        std::process::exit(code);
    });
    let mut reader = BufReader::new(server.try_clone()?);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Err(std::io::Error::other("the server closed the connection"));
        }
        while bytes.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            bytes.pop();
        }
        match understand(&bytes, now_ms()) {
            Heard::Ping(token) => server.write_all(format!("PONG :{token}\r\n").as_bytes())?,
            Heard::Event(event) => report(&event)?,
        }
    }
}

/// What a line from the server means.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Ping(String),
    Event(Event),
}

fn understand(bytes: &[u8], at_ms: u64) -> Heard {
    let text = String::from_utf8_lossy(bytes);
    let exact = std::str::from_utf8(bytes).is_ok();
    let line = irc::parse(&text);
    Heard::Event(match (line.command, line.params.as_slice()) {
        ("PING", params) => return Heard::Ping(params.first().copied().unwrap_or_default().to_owned()),
        ("001", _) => Event::Connected { at_ms, server: line.from.to_owned() },
        ("303", [_, online]) => {
            Event::NickSeen { at_ms, online: online.split_whitespace().map(str::to_owned).collect() }
        }
        (command @ ("PRIVMSG" | "NOTICE"), [target, text]) => Event::Received(Received {
            at_ms,
            command: command.to_owned(),
            from: line.from.to_owned(),
            target: (*target).to_owned(),
            text: (*text).to_owned(),
            exact,
        }),
        _ => Event::Other { at_ms, line: text.into_owned() },
    })
}

/// Carries out the commands on standard input, until it ends.
fn obey(mut server: TcpStream) -> std::io::Result<()> {
    for line in std::io::stdin().lock().lines() {
        match serde_json::from_str::<Command>(&line?) {
            Ok(Command::Say { to, text }) => match irc::say(&to, &text) {
                Ok(line) => {
                    server.write_all(line.as_bytes())?;
                    report(&Event::Sent { at_ms: now_ms(), to, text })?;
                }
                Err(fault) => report(&Event::Refused { at_ms: now_ms(), reason: fault.to_string() })?,
            },
            Ok(Command::Look { nick }) => server.write_all(format!("ISON {nick}\r\n").as_bytes())?,
            Ok(Command::Quit) => break,
            Err(error) => report(&Event::Refused { at_ms: now_ms(), reason: error.to_string() })?,
        }
    }
    server.write_all(b"QUIT\r\n")
}

/// A peer in a process of its own, and everything it has reported.
#[derive(Debug)]
pub struct PeerHandle {
    nick: String,
    kin: Kin,
    input: std::process::ChildStdin,
    events: Collected<Event>,
}

impl PeerHandle {
    /// Starts `program args... --nick NICK --port PORT`, which must end in [`run`], and waits until it is connected.
    /// Its log is `<nick>.log` in `logs`.
    ///
    /// # Errors
    /// When it cannot be started or is not accepted by the server within 10 s.
    pub fn start(program: &Path, args: &[&str], nick: &str, port: u16, logs: &Path) -> Result<Self, Fault> {
        let log = logs.join(format!("peer-{nick}.log"));
        let mut command = tied(program);
        command.args(args).args(["--nick", nick, "--port", &port.to_string()]).stdin(Stdio::piped());
        let mut kin = Kin::start(&format!("the peer {nick}"), command, &log, true)?;
        let (Some(input), Some(output)) = (kin.take_input(), kin.take_output()) else {
            return Err(Fault::Start { program: nick.to_owned(), source: std::io::Error::other("it has no pipes") });
        };
        let mut peer = Self { nick: nick.to_owned(), kin, input, events: Collected::from(output) };
        peer.wait_event("the server's welcome", Duration::from_secs(10), |event| match event {
            Event::Connected { .. } => Some(()),
            _ => None,
        })?;
        Ok(peer)
    }

    /// The peer's nick.
    #[must_use]
    pub fn nick(&self) -> &str {
        &self.nick
    }

    /// The peer's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.kin.pid()
    }

    /// Sends one message and returns when it was handed to the network, in milliseconds since 1970.
    ///
    /// # Errors
    /// When IRC cannot carry it, or the peer does not report it sent within 5 s.
    pub fn say(&mut self, to: &str, text: &str) -> Result<u64, Fault> {
        irc::say(to, text)?;
        let before = self.events.all().len();
        self.tell(&Command::Say { to: to.to_owned(), text: text.to_owned() })?;
        self.wait_after(before, "the peer's own report of sending", Duration::from_secs(5), |event| match event {
            Event::Sent { at_ms, .. } => Some(*at_ms),
            _ => None,
        })
    }

    /// Whether the server knows `nick` now.
    ///
    /// # Errors
    /// When the server does not answer within 5 s.
    pub fn sees(&mut self, nick: &str) -> Result<bool, Fault> {
        let before = self.events.all().len();
        self.tell(&Command::Look { nick: nick.to_owned() })?;
        let online = self.wait_after(before, "the server's answer", Duration::from_secs(5), |event| match event {
            Event::NickSeen { online, .. } => Some(online.clone()),
            _ => None,
        })?;
        Ok(online.iter().any(|seen| seen.eq_ignore_ascii_case(nick)))
    }

    /// Everything the peer has reported.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.all()
    }

    /// Every message and notice that has arrived, from anyone, in order, duplicates included.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        received_of(&self.events.all())
    }

    /// Waits until at least `count` messages and notices have arrived and returns them all.
    ///
    /// # Errors
    /// When fewer have arrived within `within`; the peer's log is named.
    pub fn wait_received(&self, count: usize, within: Duration) -> Result<Vec<Received>, Fault> {
        let found = self.events.wait(within, |events| {
            let received = received_of(events);
            (received.len() >= count).then_some(received)
        });
        found.ok_or_else(|| self.late(&format!("message number {count} at {}", self.nick), within))
    }

    /// Leaves the server and waits up to 2 s for the process to end; returns whether it did.
    pub fn quit(mut self) -> bool {
        self.tell(&Command::Quit).is_ok() && self.kin.ended_within(Duration::from_secs(2))
    }

    fn tell(&mut self, command: &Command) -> Result<(), Fault> {
        let failed = |source| Fault::Io { what: format!("telling the peer {}", self.nick), source };
        let mut line = serde_json::to_vec(command).map_err(|error| failed(std::io::Error::other(error)))?;
        line.push(b'\n');
        self.input.write_all(&line).and_then(|()| self.input.flush()).map_err(failed)
    }

    fn wait_event<T>(&mut self, what: &str, within: Duration, pick: impl Fn(&Event) -> Option<T>) -> Result<T, Fault> {
        self.wait_after(0, what, within, pick)
    }

    fn wait_after<T>(
        &mut self,
        before: usize,
        what: &str,
        within: Duration,
        pick: impl Fn(&Event) -> Option<T>,
    ) -> Result<T, Fault> {
        match self.events.wait(within, |events| events[before.min(events.len())..].iter().find_map(&pick)) {
            Some(found) => Ok(found),
            None => Err(self.kin.check_alive().err().unwrap_or_else(|| self.late(what, within))),
        }
    }

    fn late(&self, what: &str, within: Duration) -> Fault {
        Fault::Late { what: what.to_owned(), within, log: self.kin.log().to_owned() }
    }
}

fn received_of(events: &[Event]) -> Vec<Received> {
    let received = |event: &Event| if let Event::Received(received) = event { Some(received.clone()) } else { None };
    events.iter().filter_map(received).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(line: &[u8]) -> Event {
        match understand(line, 7) {
            Heard::Event(event) => event,
            Heard::Ping(token) => panic!("a ping with {token}"),
        }
    }

    #[test]
    fn messages_and_notices_are_both_received() {
        for command in ["PRIVMSG", "NOTICE"] {
            let Event::Received(received) = heard(format!(":bob!b@h {command} alice :é 你好").as_bytes()) else {
                panic!("{command} was not received");
            };
            assert_eq!((received.command.as_str(), received.from.as_str()), (command, "bob"));
            assert_eq!((received.text.as_str(), received.exact, received.at_ms), ("é 你好", true, 7));
        }
    }

    #[test]
    fn broken_bytes_are_kept_and_told() {
        let Event::Received(received) = heard(b":bob!b@h PRIVMSG alice :a\xffb") else { panic!("not received") };
        assert_eq!((received.text.as_str(), received.exact), ("a\u{fffd}b", false));
    }

    #[test]
    fn any_other_line_is_kept_as_it_came() {
        assert!(
            matches!(heard(b":s 401 alice nobody :No such nick"), Event::Other { line, .. } if line.contains("401"))
        );
        assert_eq!(understand(b"PING :abc", 7), Heard::Ping("abc".to_owned()));
    }

    #[test]
    fn events_survive_the_pipe() {
        let events = [heard(b":bob!b@h PRIVMSG alice :x"), heard(b":s 303 me :a b"), heard(b":s 001 me :hi")];
        for event in events {
            let line = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event, "{line}");
        }
    }
}
