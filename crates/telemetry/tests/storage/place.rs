//! Temporary directories of tests, and reproducible random numbers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use martlet_telemetry::{DatabaseUrl, Location, Settings, Storage};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

/// Bytes of a page of SQLite.
pub(crate) const PAGE: usize = 4096;

/// Location of a test's values. A directory is removed at the end.
pub(crate) enum TestStorage {
    Directory(PathBuf),
    Database(DatabaseUrl),
}

impl TestStorage {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("martlet-telemetry-{name}-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Self::Directory(path)
    }

    pub(crate) fn of_database(url: DatabaseUrl) -> Self {
        Self::Database(url)
    }

    pub(crate) fn file(&self) -> PathBuf {
        match self {
            Self::Directory(path) => path.join("telemetry.db"),
            Self::Database(url) => panic!("{url} is not a file"),
        }
    }

    pub(crate) fn location(&self) -> Location {
        match self {
            Self::Directory(_) => Location::File(self.file()),
            Self::Database(url) => Location::Postgres(url.clone()),
        }
    }

    pub(crate) async fn open(&self, settings: Settings) -> Storage {
        let opened = Storage::open(self.location(), settings).await;
        opened.expect("it opens")
    }

    /// Opens the file with SQLite itself.
    pub(crate) async fn sql(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.file());
        options.connect().await.expect("it opens")
    }

    /// Numbers of the pages of a table or index.
    pub(crate) async fn pages(&self, of: &str) -> Vec<usize> {
        self.pages_of_type(of, "%").await
    }

    /// Numbers of the pages of a table or index that have rows, in their order.
    pub(crate) async fn leaves(&self, of: &str) -> Vec<usize> {
        self.pages_of_type(of, "leaf").await
    }

    async fn pages_of_type(&self, of: &str, like: &str) -> Vec<usize> {
        let mut on = self.sql().await;
        let pages = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype LIKE ?2 ORDER BY path";
        let pages = sqlx::query_scalar::<_, i64>(pages).bind(of).bind(like);
        let pages = pages.fetch_all(&mut on).await.expect("its pages");
        on.close().await.expect("it closes");
        let pages = pages.into_iter().map(usize::try_from);
        pages.map(|page| page.expect("a number")).collect()
    }

    /// Puts these bytes in the place of the file, and removes its log.
    pub(crate) fn put(&self, bytes: &[u8]) {
        for log in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{log}", self.file().display()));
        }
        std::fs::write(self.file(), bytes).expect("a written file");
    }
}

impl Drop for TestStorage {
    fn drop(&mut self) {
        if let Self::Directory(path) = self {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Settings under which values move into blocks often, and writes do not wait for others.
pub(crate) fn small() -> Settings {
    Settings {
        gather: std::time::Duration::ZERO,
        memory_bytes_max: 64 << 10,
        ..Settings::default()
    }
}

/// SplitMix64: reproducible random numbers.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to before `end`.
    pub(crate) fn below(&mut self, end: i64) -> i64 {
        i64::try_from(self.next() % end.unsigned_abs()).expect("it is below an i64")
    }
}
