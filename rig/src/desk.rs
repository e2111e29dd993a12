//! The desk itself: brings its programs up in order, and takes them down in the reverse order.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::child::{Kin, end_marked, marked, tied, tied_as_nobody, tied_gently};
use crate::config;
use crate::tools::bus_launcher;
use crate::windows::{Picture, Windows};
use crate::{Fault, irc};

/// A part of the main window's title once HexChat is in its channel.
pub(crate) const MAIN_TITLE: &str = "LocalTest / #test";
/// How long one program may take to come up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long HexChat may take to connect, and how often it is started for that.
const HEXCHAT_PATIENCE: Duration = Duration::from_secs(15);
const HEXCHAT_TRIES: usize = 3;
/// How many free ports are tried when another program takes one first.
const PORT_TRIES: usize = 5;
/// The variable by which every process of one desk can be found, also the children of children.
const MARK: &str = "AUTOREPLY_RIG_DESK";

/// Variables of the surrounding session that must not reach a process on the desk.
pub const UNSET: [&str; 14] = [
    "WAYLAND_DISPLAY",
    "WAYLAND_SOCKET",
    "XAUTHORITY",
    "XMODIFIERS",
    "GTK_IM_MODULE",
    "QT_IM_MODULE",
    "GTK2_RC_FILES",
    "AT_SPI_BUS_ADDRESS",
    "SESSION_MANAGER",
    "DBUS_STARTER_ADDRESS",
    "XDG_CONFIG_DIRS",
    "XDG_DATA_DIRS",
    "LANGUAGE",
    "LC_ALL",
];

/// What a desk shall be like.
#[derive(Debug, Clone)]
pub struct DeskPlan {
    directory: PathBuf,
    nick: String,
    screen: (u16, u16),
}

/// A running private desktop with HexChat connected; everything on it ends when it is dropped.
#[derive(Debug)]
pub struct Desk {
    // In the order of starting; taken down from the end.
    kin: Vec<Kin>,
    windows: Option<Windows>,
    directory: PathBuf,
    nick: String,
    display: String,
    port: u16,
}

impl DeskPlan {
    /// A desk in `directory` (made if it is not there), with HexChat as `autobot` on a screen of 1600 x 1000.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), nick: "autobot".to_owned(), screen: (1600, 1000) }
    }

    /// Changes HexChat's nick (at most 16 characters).
    #[must_use]
    pub fn nick(mut self, nick: impl Into<String>) -> Self {
        self.nick = nick.into();
        self
    }

    /// Changes the screen's size in pixels.
    #[must_use]
    pub fn screen(mut self, width: u16, height: u16) -> Self {
        self.screen = (width, height);
        self
    }

    /// Brings everything up and returns when the IRC server knows HexChat's nick and its window shows the channel.
    ///
    /// # Errors
    /// When a program is missing, ends early or does not come up in time; its log is named. What was already
    /// started is taken down.
    pub fn start(&self) -> Result<Desk, Fault> {
        let making = |path: &Path| Fault::io(format!("making {}", path.display()));
        for part in ["log", "run", "home/.config/hexchat"] {
            let path = self.directory.join(part);
            std::fs::create_dir_all(&path).map_err(making(&path))?;
        }
        let directory = self.directory.canonicalize().map_err(making(&self.directory))?;
        let run = directory.join("run");
        // Buses refuse a run directory that others can read.
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o700)).map_err(making(&run))?;
        let nick = self.nick.clone();
        let mut desk = Desk { kin: Vec::new(), windows: None, directory, nick, display: String::new(), port: 0 };
        desk.start_display(self.screen)?;
        let windows = Windows::connect(&desk.display)?;
        desk.start_manager(&windows)?;
        desk.start_buses()?;
        desk.start_server()?;
        desk.start_hexchat(&windows)?;
        desk.windows = Some(windows);
        Ok(desk)
    }
}

/// The title of the private window for `peer`; it names the peer and the network, never the own nick.
#[must_use]
pub(crate) fn dialog_title(peer: &str) -> String {
    format!("Dialog with {peer} @ {} - HexChat", config::NETWORK)
}

impl Desk {
    /// The display's name (":5").
    #[must_use]
    pub fn display(&self) -> &str {
        &self.display
    }

    /// The IRC server's port on 127.0.0.1.
    #[must_use]
    pub fn irc_port(&self) -> u16 {
        self.port
    }

    /// HexChat's nick.
    #[must_use]
    pub fn nick(&self) -> &str {
        &self.nick
    }

    /// Where the programs' logs are.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The title of HexChat's private window for `peer`.
    #[must_use]
    pub fn dialog_title(&self, peer: &str) -> String {
        dialog_title(peer)
    }

    /// A part of the title of HexChat's main window, and of no other.
    #[must_use]
    pub fn main_title(&self) -> &'static str {
        MAIN_TITLE
    }

    /// The pids of the programs started directly, oldest first.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.kin.iter().map(Kin::pid).collect()
    }

    /// "NAME=value" in the environment of every process of this desk, for [`marked`].
    #[must_use]
    pub fn mark(&self) -> String {
        format!("{MARK}={}", self.directory.display())
    }

    /// The variables a program needs to see this desk, accessibility included. [`UNSET`] must be removed beside it.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let run = self.directory.join("run");
        let home = self.directory.join("home");
        let below = |part: &str| home.join(part).display().to_string();
        let pairs = [
            ("DISPLAY", self.display.clone()),
            ("DBUS_SESSION_BUS_ADDRESS", bus_address(&run)),
            ("XDG_RUNTIME_DIR", run.display().to_string()),
            ("XDG_SESSION_TYPE", "x11".to_owned()),
            ("HOME", home.display().to_string()),
            ("XDG_CONFIG_HOME", below(".config")),
            ("XDG_DATA_HOME", below(".local/share")),
            ("XDG_CACHE_HOME", below(".cache")),
            ("XDG_STATE_HOME", below(".local/state")),
            ("LANG", "C.UTF-8".to_owned()),
            ("GSETTINGS_BACKEND", "memory".to_owned()),
            // Tesseract with threads is many times slower on a busy machine.
            ("OMP_THREAD_LIMIT", "1".to_owned()),
            ("NO_AT_BRIDGE", "0".to_owned()),
            ("GTK_MODULES", "gail:atk-bridge".to_owned()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Gives `command` the desk's environment.
    pub fn furnish(&self, command: &mut Command) {
        command.envs(self.env());
        for name in UNSET {
            command.env_remove(name);
        }
    }

    /// The windows on the desk.
    ///
    /// # Errors
    /// When the connection to the display is not there.
    pub fn windows(&self) -> Result<&Windows, Fault> {
        self.windows.as_ref().ok_or_else(|| Fault::Display("the desk is not up".into()))
    }

    /// Takes a picture of the whole screen.
    ///
    /// # Errors
    /// When the display went away.
    pub fn capture_root(&self) -> Result<Picture, Fault> {
        self.windows()?.capture_root()
    }

    /// Says in an error which of the desk's programs has ended, if one has.
    ///
    /// # Errors
    /// When one has.
    pub fn check_alive(&mut self) -> Result<(), Fault> {
        self.kin.iter_mut().try_for_each(Kin::check_alive)
    }

    /// Ends HexChat without a farewell and starts it again, as after a crash; its windows are new.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn restart_hexchat(&mut self) -> Result<(), Fault> {
        drop(self.kin.pop());
        let windows = Windows::connect(&self.display)?;
        self.start_hexchat(&windows)
    }

    fn start_display(&mut self, (width, height): (u16, u16)) -> Result<(), Fault> {
        let mut command = tied("Xvfb");
        // The server picks a free number itself and tells it: two desks cannot pick the same.
        command.args(["-displayfd", "1", "-screen", "0", &format!("{width}x{height}x24")]);
        command.args(["-nolisten", "tcp", "-noreset", "-s", "0"]);
        let mut server = self.start_kin("xvfb", command, true)?;
        let output = server.take_output();
        let (sender, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            if let Some(output) = output {
                // A failure is an empty line, which is no number.
                let _ = BufReader::new(output).read_line(&mut line);
            }
            let _ = sender.send(line);
        });
        let mut number = None;
        server.wait_until("the number of the display", PATIENCE, || {
            number = number.or_else(|| told.try_recv().ok()?.trim().parse::<u32>().ok());
            Ok(number.is_some())
        })?;
        self.display = number.map(|number| format!(":{number}")).unwrap_or_default();
        self.kin.push(server);
        Ok(())
    }

    fn start_manager(&mut self, windows: &Windows) -> Result<(), Fault> {
        let mut command = self.command("openbox");
        command.arg("--sm-disable");
        let mut manager = self.start_kin("openbox", command, false)?;
        manager.wait_until("the window manager", PATIENCE, || windows.is_managed())?;
        self.kin.push(manager);
        Ok(())
    }

    fn start_buses(&mut self) -> Result<(), Fault> {
        let socket = self.directory.join("run/bus");
        // A socket left by an earlier desk in this directory would be taken for the new one.
        let _ = std::fs::remove_file(&socket);
        let mut command = self.command("dbus-daemon");
        command.args(["--session", "--nofork", "--nopidfile", "--nosyslog"]);
        command.arg(format!("--address={}", bus_address(&self.directory.join("run"))));
        let mut bus = self.start_kin("dbus", command, false)?;
        bus.wait_until("the session bus", PATIENCE, || Ok(socket.exists()))?;
        self.kin.push(bus);

        let launcher = bus_launcher().ok_or_else(|| Fault::Start {
            program: "at-spi-bus-launcher".to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        // Killed, it would leave the bus it started behind.
        let mut command = tied_gently(launcher);
        self.furnish_own(&mut command);
        command.arg("--launch-immediately");
        let mut accessibility = self.start_kin("at-spi", command, false)?;
        accessibility.wait_until("the accessibility bus", PATIENCE, || Ok(self.has_accessibility()))?;
        self.kin.push(accessibility.gently());
        Ok(())
    }

    /// Whether the launcher serves its name and tells the address of the accessibility bus.
    fn has_accessibility(&self) -> bool {
        // Asked for the address before the launcher has its name, the session bus would start another launcher.
        let owner = ["/org/freedesktop/DBus", "org.freedesktop.DBus.NameHasOwner", "string:org.a11y.Bus"];
        let owned = self.ask_bus("--dest=org.freedesktop.DBus", &owner);
        owned.is_some_and(|answer| answer.contains("boolean true"))
            && self.ask_bus("--dest=org.a11y.Bus", &["/org/a11y/bus", "org.a11y.Bus.GetAddress"]).is_some()
    }

    /// How many applications can be read through accessibility.
    fn count_accessible(&self) -> Option<u32> {
        let answer = self.ask_bus("--dest=org.a11y.Bus", &["/org/a11y/bus", "org.a11y.Bus.GetAddress"])?;
        let address = answer.split('"').nth(1)?;
        let mut ask = self.command("dbus-send");
        ask.args([&format!("--bus={address}"), "--print-reply", "--reply-timeout=2000"]);
        ask.args(["--dest=org.a11y.atspi.Registry", "/org/a11y/atspi/accessible/root"]);
        ask.args(["org.freedesktop.DBus.Properties.Get", "string:org.a11y.atspi.Accessible", "string:ChildCount"]);
        let answer = ask.stderr(Stdio::null()).output().ok()?;
        String::from_utf8_lossy(&answer.stdout).trim().rsplit(' ').next()?.parse().ok()
    }

    /// The answer to a call on the session bus, as dbus-send prints it.
    fn ask_bus(&self, destination: &str, call: &[&str]) -> Option<String> {
        let mut ask = self.command("dbus-send");
        ask.args(["--session", "--print-reply", "--reply-timeout=2000", destination]).args(call);
        let answer = ask.stderr(Stdio::null()).output().ok()?;
        answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    fn start_server(&mut self) -> Result<(), Fault> {
        let file = self.directory.join("ngircd.conf");
        let mut tries = 0;
        loop {
            tries += 1;
            let port = free_port()?;
            // The name tells our server from any other that took the port first.
            let name = format!("irc-{}-{port}.test", std::process::id());
            write_file(&file, &config::ngircd(&name, port))?;
            let mut server = self.start_kin("ngircd", self.server_command(&file)?, false)?;
            let answers = || Ok(ask_online(port, &name, &self.nick).is_some());
            match server.wait_until("the IRC server", PATIENCE, answers) {
                Ok(()) => {
                    self.port = port;
                    self.kin.push(server);
                    return Ok(());
                }
                Err(Fault::Ended { .. }) if tries < PORT_TRIES => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    fn server_command(&self, file: &Path) -> Result<Command, Fault> {
        // ngircd refuses to be root; and as `nobody` it may not be able to reach the file, so it is handed over open.
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        let mut command = if is_root { tied_as_nobody("ngircd") } else { tied("ngircd") };
        self.furnish_own(&mut command);
        let reading = Fault::io(format!("opening {}", file.display()));
        command.args(["-n", "-f", "/dev/stdin"]).stdin(File::open(file).map_err(reading)?);
        Ok(command)
    }

    fn start_hexchat(&mut self, windows: &Windows) -> Result<(), Fault> {
        let settings = self.directory.join("home/.config/hexchat");
        write_file(&settings.join("hexchat.conf"), &config::hexchat(&self.nick))?;
        write_file(&settings.join("servlist.conf"), &config::servlist(&self.nick, self.port))?;
        let mut tries = 0;
        loop {
            tries += 1;
            // Sometimes HexChat stays before it connects; a fresh one does not.
            match self.try_hexchat(windows) {
                Err(Fault::Late { .. }) if tries < HEXCHAT_TRIES => {}
                answer => return answer,
            }
        }
    }

    fn try_hexchat(&mut self, windows: &Windows) -> Result<(), Fault> {
        let mut hexchat = self.start_kin("hexchat", self.command("hexchat"), false)?;
        let name = format!("irc-{}-{}.test", std::process::id(), self.port);
        hexchat.wait_until("HexChat's connection to the IRC server", HEXCHAT_PATIENCE, || {
            dismiss_warning(windows)?;
            Ok(ask_online(self.port, &name, &self.nick) == Some(true)
                && windows.all()?.iter().any(|shown| shown.title.contains(MAIN_TITLE)))
        })?;
        let seen = || Ok(self.count_accessible().is_some_and(|count| count > 0));
        hexchat.wait_until("HexChat on the accessibility bus", PATIENCE, seen)?;
        self.kin.push(hexchat);
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = tied(program);
        self.furnish_own(&mut command);
        command
    }

    fn furnish_own(&self, command: &mut Command) {
        self.furnish(command);
        command.env(MARK, &self.directory).stdin(Stdio::null()).current_dir(&self.directory);
    }

    fn start_kin(&self, name: &str, mut command: Command, pipe_output: bool) -> Result<Kin, Fault> {
        command.env(MARK, &self.directory);
        Kin::start(name, command, &self.logs().join(format!("{name}.log")), pipe_output)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.windows = None;
        while let Some(kin) = self.kin.pop() {
            drop(kin);
        }
        // What the buses started goes when they go; whatever does not is ended.
        if !marked(&self.mark()).is_empty() {
            end_marked(&self.mark(), Duration::from_secs(2));
        }
    }
}

/// Closes the dialog in which HexChat warns of being run as root; without an answer it does not go on.
fn dismiss_warning(windows: &Windows) -> Result<(), Fault> {
    for shown in windows.all()? {
        if shown.class == "Hexchat" && !shown.title.contains(" - HexChat") && shown.title != "HexChat" {
            windows.close(shown.id)?;
        }
    }
    Ok(())
}

fn bus_address(run: &Path) -> String {
    format!("unix:path={}", run.join("bus").display())
}

fn write_file(path: &Path, text: &str) -> Result<(), Fault> {
    std::fs::write(path, text).map_err(Fault::io(format!("writing {}", path.display())))?;
    // The IRC server may read its file as another user.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).map_err(Fault::io(path.display().to_string()))
}

fn free_port() -> Result<u16, Fault> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Fault::io("looking for a free port on loopback"))?;
    Ok(listener.local_addr().map_err(Fault::io("reading the free port"))?.port())
}

/// Asks the server on `port` whether it knows `nick`; `None` when it does not answer or is not the one of that name.
fn ask_online(port: u16, name: &str, nick: &str) -> Option<bool> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).ok()?;
    server.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    server.write_all(b"NICK rig_usher\r\nUSER usher 0 * :usher\r\n").ok()?;
    let lines = BufReader::new(server.try_clone().ok()?).lines();
    for line in lines {
        let line = line.ok()?;
        let parsed = irc::parse(&line);
        match parsed.command {
            "001" if parsed.from != name => return None,
            "001" => server.write_all(format!("ISON {nick}\r\n").as_bytes()).ok()?,
            "303" => {
                // Leave in good order, so that the next usher finds the nick free.
                let _ = server.write_all(b"QUIT\r\n");
                return Some(parsed.params.get(1).is_some_and(|online| online.trim().eq_ignore_ascii_case(nick)));
            }
            "433" => return None,
            "PING" => {
                let token = parsed.params.first().copied().unwrap_or_default();
                server.write_all(format!("PONG :{token}\r\n").as_bytes()).ok()?;
            }
            _ => {}
        }
    }
    None
}
