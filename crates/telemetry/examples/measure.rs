//! Cost of telemetry: values per second, CPU time compared with a bare insert loop, bytes per
//! value, and a query during ingest. Run by `bench/telemetry`; it prints tables in Markdown.
//!
//! `measure DIRECTORY [--devices 10000] [--rounds 60] [--only ingest|room|query]`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use martlet_telemetry::{
    Aggregate, Bucket, DAY, Fill, Function, Location, MINUTE, Point, SECOND, Selection, Settings,
    Storage, Time, Value,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Keys of each device.
const KEYS: [&str; 5] = ["temperature", "humidity", "pressure", "voltage", "uptime"];
/// Points of one call.
const CALL: usize = 1_000;
/// Calls at the same time.
const CALLERS: usize = 4;
/// Rows of one transaction of the bare loops.
const BARE_ROWS: usize = 12_500;
/// Value times of the first round: 2025-10-01T00:00:00Z.
const BEGIN: Time = 1_759_276_800 * SECOND;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: measure DIRECTORY")?);
    let (mut devices, mut rounds) = (10_000_i64, 60_i64);
    let mut only = None;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or("an option needs a value")?;
        match name.as_str() {
            "--devices" => devices = value.parse()?,
            "--rounds" => rounds = value.parse()?,
            "--only" => only = Some(value),
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let is_wanted = |part| only.as_ref().is_none_or(|only| only == part);
        if is_wanted("ingest") {
            ingest(&directory, devices, rounds).await?;
        }
        if is_wanted("room") {
            room(&directory).await?;
        }
        if is_wanted("query") {
            query(&directory, devices).await?;
        }
        Ok(())
    })
}

/// Noise over a range, without a pattern that compression could use.
fn noise(seed: i64) -> i64 {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
    (mixed ^ (mixed >> 29)).rem_euclid(1_000)
}

/// A typical sensor value: a slow drift, with noise in its last digits.
fn value(device: i64, key: usize, round: i64) -> Value {
    let last_digits = noise(device * 31 + round * 7 + key as i64) % 20;
    let slow = (round / 30 + device) % 400;
    match key {
        4 => Value::Integer(round + device),
        2 => Value::Number((100_000 + slow + last_digits) as f64 / 100.0),
        _ => Value::Number((2_000 + slow + last_digits) as f64 / 100.0),
    }
}

/// Points of a call: the keys of several devices at one time.
fn call(first: i64, devices: i64, round: i64, keys: &[Arc<str>]) -> Vec<Point> {
    let of_device = |device: i64| {
        keys.iter().enumerate().map(move |(index, key)| Point {
            device,
            tenant: 0,
            key: Arc::clone(key),
            // Devices do not measure at the same time.
            time: BEGIN + round * SECOND + noise(device) * 1_000,
            origin: 0,
            value: value(device, index, round),
        })
    };
    (first..first + devices).flat_map(of_device).collect()
}

fn shared_keys() -> Vec<Arc<str>> {
    KEYS.iter().map(|key| Arc::from(*key)).collect()
}

/// CPU time of this process: user and system.
fn cpu() -> Outcome<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').ok_or("unexpected /proc/self/stat")?.1;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

struct Measured {
    name: &'static str,
    values: i64,
    wall: Duration,
    cpu: Duration,
    bytes: u64,
}

fn print(rows: &[Measured]) {
    println!("| Way | values/s | CPU per value | cores | file, bytes per value |");
    println!("|---|---|---|---|---|");
    for row in rows {
        let values = row.values as f64;
        println!(
            "| {} | {:.0} | {:.2} µs | {:.2} | {:.1} |",
            row.name,
            values / row.wall.as_secs_f64(),
            row.cpu.as_secs_f64() * 1e6 / values,
            row.cpu.as_secs_f64() / row.wall.as_secs_f64(),
            row.bytes as f64 / values,
        );
    }
    println!();
}

fn fresh(directory: &Path, name: &str) -> Outcome<PathBuf> {
    let path = directory.join(name);
    remove(&path);
    std::fs::create_dir_all(directory)?;
    Ok(path)
}

fn remove(path: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
}

async fn ingest(directory: &Path, devices: i64, rounds: i64) -> Outcome<()> {
    println!(
        "### Ingest: {devices} devices with {} keys, {rounds} values of each\n",
        KEYS.len()
    );
    let mut rows = vec![ours(directory, devices, rounds).await?];
    // The bare loops are slower, and need fewer values.
    let fewer = (rounds / 4).max(1);
    for bare in [Bare::Appended, Bare::ByKey, Bare::ManyByKey] {
        rows.push(bare.run(directory, devices, fewer).await?);
    }
    print(&rows);
    Ok(())
}

async fn ours(directory: &Path, devices: i64, rounds: i64) -> Outcome<Measured> {
    let path = fresh(directory, "ingest.db")?;
    let storage = Storage::open(Location::File(path.clone()), Settings::default()).await?;
    let per_call = (CALL / KEYS.len()) as i64;
    let calls: Vec<(i64, i64)> = (0..rounds)
        .flat_map(|round| (0..devices / per_call).map(move |part| (round, part * per_call)))
        .collect();
    let calls = Arc::new(calls);
    let (began, cpu_before) = (Instant::now(), cpu()?);
    let slowest = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (storage, calls) = (storage.clone(), Arc::clone(&calls));
            let slowest = Arc::clone(&slowest);
            tokio::spawn(async move {
                let keys = shared_keys();
                for (round, first) in calls.iter().skip(caller).step_by(CALLERS) {
                    let called = Instant::now();
                    storage.write(call(*first, per_call, *round, &keys)).await?;
                    let took = u64::try_from(called.elapsed().as_millis()).unwrap_or(u64::MAX);
                    slowest.fetch_max(took, Ordering::Relaxed);
                }
                Ok::<_, martlet_telemetry::StorageError>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    let wall = began.elapsed();
    // Packing the waiting values is part of the cost.
    storage.pack().await?;
    let measured = Measured {
        name: "Martlet",
        values: devices / per_call * per_call * rounds * KEYS.len() as i64,
        wall,
        cpu: cpu()?
            .checked_sub(cpu_before)
            .ok_or("CPU time ran backwards")?,
        bytes: storage.bytes().await?,
    };
    println!(
        "The slowest call took {} ms.\n",
        slowest.load(Ordering::Relaxed)
    );
    storage.close().await?;
    remove(&path);
    Ok(measured)
}

/// Loops that only insert the rows, with the same library.
#[derive(Clone, Copy)]
enum Bare {
    /// Into a table without a key.
    Appended,
    /// Into a table with rows in order of series and time, as needed for a range read.
    ByKey,
    /// Loop as [`Bare::ByKey`], with a hundred rows per statement.
    ManyByKey,
}

impl Bare {
    fn name(self) -> &'static str {
        match self {
            Self::Appended => "bare loop, no key",
            Self::ByKey => "bare loop, by series and time",
            Self::ManyByKey => "the same, 100 rows per statement",
        }
    }

    async fn run(self, directory: &Path, devices: i64, rounds: i64) -> Outcome<Measured> {
        let path = fresh(directory, "bare.db")?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        let table = match self {
            Self::Appended => {
                "CREATE TABLE points (series INTEGER, time INTEGER, origin INTEGER, value)"
            }
            Self::ByKey | Self::ManyByKey => {
                "CREATE TABLE points (series INTEGER, time INTEGER, origin INTEGER, value, \
                 PRIMARY KEY (series, time, origin)) WITHOUT ROWID"
            }
        };
        sqlx::raw_sql(table).execute(&mut connection).await?;
        let (began, cpu_before) = (Instant::now(), cpu()?);
        let mut values = 0;
        for round in 0..rounds {
            let keys = shared_keys();
            let points = call(0, devices, round, &keys);
            for rows in points.chunks(BARE_ROWS) {
                values += rows.len() as i64;
                self.insert(&mut connection, rows).await?;
            }
        }
        let wall = began.elapsed();
        let cpu = cpu()?
            .checked_sub(cpu_before)
            .ok_or("CPU time ran backwards")?;
        connection.close().await?;
        let bytes = std::fs::metadata(&path)?.len();
        remove(&path);
        Ok(Measured {
            name: self.name(),
            values,
            wall,
            cpu,
            bytes,
        })
    }

    async fn insert(self, on: &mut SqliteConnection, rows: &[Point]) -> Outcome<()> {
        let mut work = on.begin().await?;
        let together = match self {
            Self::Appended | Self::ByKey => 1,
            Self::ManyByKey => 100,
        };
        for some in rows.chunks(together) {
            let places = vec!["(?, ?, ?, ?)"; some.len()].join(", ");
            let sql = format!("INSERT OR REPLACE INTO points VALUES {places}");
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for point in some {
                let key = KEYS.iter().position(|key| *key == &*point.key);
                query = query.bind(point.device * 5 + key.unwrap_or(0) as i64);
                query = query.bind(point.time).bind(point.origin);
                query = match &point.value {
                    Value::Integer(number) => query.bind(*number),
                    other => query.bind(other.number()),
                };
            }
            query.execute(&mut *work).await?;
        }
        work.commit().await?;
        Ok(())
    }
}

/// Bytes of a value of sensors with a steady rate.
async fn room(directory: &Path) -> Outcome<()> {
    println!("### Bytes on disk per value of a steady sensor, with roll-ups\n");
    println!("| Sensor | values | bytes per value |\n|---|---|---|");
    for (name, step, count, digits) in [
        (
            "one per second, two decimal places",
            SECOND,
            4 * 86_400,
            true,
        ),
        (
            "one per second, noise in all bits",
            SECOND,
            4 * 86_400,
            false,
        ),
        (
            "one per minute, two decimal places",
            MINUTE,
            60 * 1_440,
            true,
        ),
        (
            "one per 15 minutes, two decimal places",
            15 * MINUTE,
            365 * 96,
            true,
        ),
        ("one per day, two decimal places", DAY, 3 * 365, true),
    ] {
        let path = fresh(directory, "room.db")?;
        let storage = Storage::open(Location::File(path.clone()), Settings::default()).await?;
        let empty = storage.bytes().await?;
        let mut total = 0_u64;
        for device in 0..10 {
            let point = |index: i64| Point {
                device,
                tenant: 0,
                key: "temperature".into(),
                time: BEGIN + index * step + noise(device) * 1_000,
                origin: 0,
                value: match digits {
                    true => value(device, 0, index),
                    false => Value::Number((noise(index) as f64 + 1.0).sqrt()),
                },
            };
            let points: Vec<_> = (0..count).map(point).collect();
            for some in points.chunks(50_000) {
                total += storage.write(some.to_vec()).await?.stored as u64;
            }
        }
        storage.pack().await?;
        let bytes = storage.bytes().await? - empty;
        let each = bytes as f64 / total as f64;
        println!("| {name} | {total} | {each:.2} |");
        storage.close().await?;
        remove(&path);
    }
    println!();
    Ok(())
}

/// Averages per minute of a device's last day, while others write 50,000 values per second.
async fn query(directory: &Path, devices: i64) -> Outcome<()> {
    let path = fresh(directory, "query.db")?;
    let storage = Storage::open(Location::File(path.clone()), Settings::default()).await?;
    // The last day is incomplete, so it has no roll-ups: the slow case.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let until = Time::try_from(now.as_micros())? / MINUTE * MINUTE;
    let point = |second: i64| Point {
        device: -1,
        tenant: 0,
        key: "temperature".into(),
        time: until - DAY + second * SECOND,
        origin: 0,
        value: value(1, 0, second),
    };
    let points: Vec<_> = (0..86_400).map(point).collect();
    for some in points.chunks(10_000) {
        storage.write(some.to_vec()).await?;
    }
    storage.pack().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let load = tokio::spawn(steady(
        storage.clone(),
        devices,
        Arc::clone(&stop),
        Arc::clone(&written),
    ));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let question = Aggregate {
        selection: Selection::device(-1),
        from: until - DAY,
        until,
        bucket: Bucket::Fixed(MINUTE),
        functions: vec![Function::Avg],
        fill: Fill::Omit,
        limit: 10_000,
        after: None,
    };
    let (began, before) = (Instant::now(), written.load(Ordering::Relaxed));
    let mut times = Vec::new();
    while times.len() < 200 {
        let asked = Instant::now();
        let rows = storage.aggregate(&question).await?.rows;
        times.push(asked.elapsed());
        assert_eq!(rows.len(), 1_440);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rate = (written.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    load.await??;
    times.sort();
    println!(
        "### 86,400 values of a device as 1,440 averages, during ingest of {rate:.0} values/s\n"
    );
    println!("| p50 | p95 | p99 |\n|---|---|---|");
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e3;
    println!("| {:.1} ms | {:.1} ms | {:.1} ms |", at(50), at(95), at(99));
    storage.close().await?;
    remove(&path);
    Ok(())
}

/// Writes 50,000 values per second.
async fn steady(
    storage: Storage,
    devices: i64,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> Result<(), martlet_telemetry::StorageError> {
    let keys = shared_keys();
    let per_call = (CALL / KEYS.len()) as i64;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let (mut round, mut first) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let mut calls = Vec::new();
        for _ in 0..5 {
            calls.push(storage.write(call(first, per_call, round, &keys)));
            first += per_call;
            if first + per_call > devices {
                (first, round) = (0, round + 1);
            }
        }
        let done = futures_util::future::try_join_all(calls).await?;
        let stored: usize = done.iter().map(|written| written.stored).sum();
        written.fetch_add(stored as u64, Ordering::Relaxed);
    }
    Ok(())
}
