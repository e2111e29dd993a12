//! Named points at which a test can end the process as a crash would.
//!
//! Without the feature `failpoints` [`reach`] is empty and nothing can trigger it.

/// Ends this process with SIGKILL if `AUTOREPLY_FAILPOINT` names this point: no destructor runs, as in a real crash.
#[cfg(feature = "failpoints")]
#[allow(clippy::disallowed_methods, reason = "a test sets the point from outside; the feature is never in a release")]
pub fn reach(point: &str) {
    if std::env::var("AUTOREPLY_FAILPOINT").is_ok_and(|named| named == point) {
        tracing::warn!(point, "fail point reached: this process ends now");
        let _ = std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing in this build.
#[cfg(not(feature = "failpoints"))]
pub fn reach(_point: &str) {}
