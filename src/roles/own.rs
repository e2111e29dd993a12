//! What every process tells the metrics about itself: whether it is ready, and whether its disk will do.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::control::Admin;
use crate::telemetry::Metrics;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(5);

/// Keeps the gauges true until `stop`: of `admin`'s health, and of the disk on which `directory` is or would be made.
///
/// # Errors
/// Never: a disk that does not tell keeps its last figures.
pub(super) async fn tell(
    admin: Arc<dyn Admin>,
    directory: Option<PathBuf>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let directory = directory.as_deref().and_then(existing);
    while !stop.is_cancelled() {
        metrics.health.set(if admin.health().await.ready() { 1.0 } else { 0.0 });
        if let Some(disk) = directory.as_deref().and_then(disk) {
            metrics.disk_free.set(disk.free as f64);
            metrics.disk_size.set(disk.size as f64);
        }
        tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(EVERY) => {} }
    }
    Ok(())
}

/// The nearest directory on the way to `path` that is there.
pub(super) fn existing(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|ancestor| ancestor.is_dir()).map(Path::to_owned)
}

/// A disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Disk {
    /// What this user may still write.
    free: u64,
    size: u64,
}

fn disk(directory: &Path) -> Option<Disk> {
    let told = rustix::fs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    Some(Disk { free: bytes(told.f_bavail), size: bytes(told.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_of_a_directory_that_is_not_made_yet_is_that_of_its_parent() {
        let there = tempfile::tempdir().unwrap();
        let later = there.path().join("a/b");
        let directory = existing(&later).unwrap();
        assert_eq!(directory, there.path());
        let disk = disk(&directory).unwrap();
        assert!(disk.free <= disk.size && disk.size > 0, "{disk:?}");
    }
}
