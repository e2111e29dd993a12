//! The settings of the programs on the desk, as text. Pure.

/// The IRC network's name in HexChat; it appears in every window title.
pub(crate) const NETWORK: &str = "LocalTest";
/// The channel HexChat joins: its main window's title names it.
pub(crate) const CHANNEL: &str = "#test";

/// The IRC server: loopback only, no throttling, no names looked up.
pub(crate) fn ngircd(name: &str, port: u16) -> String {
    format!(
        "[Global]\nName={name}\nInfo=private test server\nListen=127.0.0.1\nPorts={port}\nMotdPhrase=private\n\
         AdminInfo1=private\nAdminInfo2=private\nAdminEMail=nobody@localhost\n\
         [Limits]\nMaxConnectionsIP=0\nMaxPenaltyTime=0\nMaxNickLength=16\n\
         [Options]\nPAM=no\nDNS=no\nIdent=no\n[Channel]\nName={CHANNEL}\n"
    )
}

/// HexChat's preferences: nothing that moves, asks, delays or decorates, and each private dialog in its own window.
pub(crate) fn hexchat(nick: &str) -> String {
    let fixed = [
        // Several peers that write at once are no flood: HexChat would stop opening dialogs for 30 s.
        ("flood_msg_num", "10000"),
        ("gui_autoopen_dialog", "1"),
        ("gui_dialog_height", "560"),
        ("gui_dialog_left", "40"),
        ("gui_dialog_top", "60"),
        ("gui_dialog_width", "760"),
        ("gui_input_spell", "0"),
        ("gui_join_dialog", "0"),
        ("gui_lagometer", "0"),
        ("gui_mode_buttons", "0"),
        ("gui_quit_dialog", "0"),
        ("gui_slist_skip", "1"),
        // Private dialogs open as windows of their own, so that several peers can be watched at once.
        ("gui_tab_dialogs", "0"),
        ("gui_tab_newtofront", "2"),
        ("gui_tab_utils", "0"),
        ("gui_throttlemeter", "0"),
        ("gui_topicbar", "0"),
        ("gui_tray", "0"),
        ("gui_ulist_hide", "1"),
        ("gui_usermenu", "0"),
        ("gui_win_height", "560"),
        ("gui_win_left", "20"),
        ("gui_win_save", "0"),
        ("gui_win_top", "20"),
        ("gui_win_width", "760"),
        ("irc_logging", "0"),
        ("irc_skip_motd", "1"),
        ("net_auto_reconnect", "1"),
        ("net_reconnect_delay", "1"),
        // With the throttle on, messages arrive late and look like failures.
        ("net_throttle", "0"),
        ("stamp_text", "1"),
        ("stamp_text_format", "[%H:%M:%S] "),
        ("text_color_nicks", "0"),
        ("text_font", "DejaVu Sans Mono 12"),
        ("text_font_main", "DejaVu Sans Mono 12"),
        ("text_indent", "1"),
        ("text_replay", "0"),
        ("text_show_marker", "0"),
    ];
    let mut text: String = fixed.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    for (key, suffix) in [("irc_nick1", ""), ("irc_nick2", "_"), ("irc_nick3", "__")] {
        text.push_str(&format!("{key} = {nick}{suffix}\n"));
    }
    text.push_str(&format!("irc_user_name = {nick}\nirc_real_name = {nick}\n"));
    text
}

/// HexChat's one network: our server, joined at start (flags 27: cycle, global user, autoconnect, no proxy).
pub(crate) fn servlist(nick: &str, port: u16) -> String {
    format!(
        "v=2.16.1\n\nN={NETWORK}\nJ={CHANNEL}\nE=UTF-8 (Unicode)\nF=27\nD=0\nS=127.0.0.1/{port}\nI={nick}\nU={nick}\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nick_and_the_port_reach_every_file() {
        assert!(ngircd("irc.test", 6123).contains("\nPorts=6123\n"));
        assert!(hexchat("autobot").contains("\nirc_nick1 = autobot\n"));
        let list = servlist("autobot", 6123);
        assert!(list.contains("\nS=127.0.0.1/6123\n") && list.contains("\nI=autobot\n"));
    }
}
