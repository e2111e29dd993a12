//! Which programs the desk needs, and which of them this machine lacks.

use std::path::Path;
use std::process::{Command, Stdio};

/// A program (or a file that another program loads) and the Debian package that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// The program's name, or the file's.
    pub program: &'static str,
    /// The Debian package to install.
    pub debian_package: &'static str,
}

const PROGRAMS: [Tool; 6] = [
    Tool { program: "setpriv", debian_package: "util-linux" },
    Tool { program: "Xvfb", debian_package: "xvfb" },
    Tool { program: "openbox", debian_package: "openbox" },
    Tool { program: "dbus-daemon", debian_package: "dbus-daemon" },
    Tool { program: "ngircd", debian_package: "ngircd" },
    Tool { program: "hexchat", debian_package: "hexchat" },
];
const DBUS_SEND: Tool = Tool { program: "dbus-send", debian_package: "dbus-bin" };
const LAUNCHER: Tool = Tool { program: "at-spi-bus-launcher", debian_package: "at-spi2-core" };
const FONT: Tool = Tool { program: "DejaVuSansMono.ttf", debian_package: "fonts-dejavu-core" };
const MODULES: [Tool; 2] = [
    Tool { program: "libgail.so", debian_package: "libgail-common" },
    Tool { program: "libatk-bridge.so", debian_package: "libatk-adaptor" },
];
const LAUNCHER_PLACES: [&str; 3] = [
    "/usr/libexec/at-spi-bus-launcher",
    "/usr/lib/at-spi2-core/at-spi-bus-launcher",
    "/usr/lib/at-spi2/at-spi-bus-launcher",
];

/// What this machine lacks for a [`crate::Desk`]; empty when a desk can be started.
#[must_use]
pub fn missing_tools() -> Vec<Tool> {
    let mut missing: Vec<Tool> =
        PROGRAMS.into_iter().chain([DBUS_SEND]).filter(|tool| !is_on_path(tool.program)).collect();
    if bus_launcher().is_none() {
        missing.push(LAUNCHER);
    }
    // Without its two modules a GTK2 program starts and stays invisible to accessibility.
    missing.extend(MODULES.into_iter().filter(|module| !has_gtk_module(module.program)));
    if !Path::new("/usr/share/fonts/truetype/dejavu").join(FONT.program).exists() {
        missing.push(FONT);
    }
    missing
}

/// Where the accessibility bus launcher is: it is never on the path.
pub(crate) fn bus_launcher() -> Option<&'static str> {
    LAUNCHER_PLACES.into_iter().find(|place| Path::new(place).exists())
}

fn is_on_path(program: &str) -> bool {
    // The shell knows the path it was given; "$1" keeps the name data.
    let mut ask = Command::new("sh");
    ask.args(["-c", "command -v -- \"$1\"", "sh", program]);
    let asked = ask.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

fn has_gtk_module(file: &str) -> bool {
    let Ok(entries) = std::fs::read_dir("/usr/lib") else { return false };
    let roots = entries.flatten().map(|entry| entry.path()).chain([Path::new("/usr/lib").to_owned()]);
    roots.into_iter().any(|root| root.join("gtk-2.0/modules").join(file).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_nowhere_is_missing_and_sh_is_not() {
        assert!(is_on_path("sh"));
        assert!(!is_on_path("a-program-nobody-wrote"));
        assert!(!has_gtk_module("a-module-nobody-wrote.so"));
    }
}
