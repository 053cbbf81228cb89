//! Runs random valid sequences of several clients on three shards and on Mosquitto: each operation
//! must have the same result for every client.
//!
//! `differ [SEQUENCES] [FIRST SEED]`. A difference prints its seed, the operations and the received
//! packets. Order between topics, Packet Identifiers and several copies for overlapping
//! subscriptions are not compared, because the specification leaves them to the server.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::time::Duration;

use martlet_script::{
    Act, BrokerProcess, Incoming, Outgoing, Script, Stage, TcpStage, Value, Variables, Version,
    VirtualStage, Wiring, decode, encode, free_port,
};

const CLIENTS: usize = 4;
const OPERATIONS: usize = 30;

fn main() -> ExitCode {
    let mut arguments = std::env::args()
        .skip(1)
        .map_while(|word| word.parse::<u64>().ok());
    let sequences = arguments.next().unwrap_or(20);
    let first = arguments.next().unwrap_or(1);
    for seed in first..first + sequences {
        let version = if seed % 2 == 0 {
            Version::V311
        } else {
            Version::V5
        };
        let operations = generate(seed, version);
        let ours = observe_shards(&operations, version);
        let theirs = match observe_mosquitto(&operations, version) {
            Ok(theirs) => theirs,
            Err(why) => {
                eprintln!("{why}");
                return ExitCode::FAILURE;
            }
        };
        if let Some(step) = (0..operations.len()).find(|step| ours[*step] != theirs[*step]) {
            println!(
                "seed {seed}, version {}: they differ at the last of",
                version.name()
            );
            for (client, line) in &operations[..=step] {
                println!("  {client}: {line}");
            }
            println!(
                "  shards:    {:?}\n  mosquitto: {:?}",
                ours[step], theirs[step]
            );
            return ExitCode::FAILURE;
        }
    }
    println!("{sequences} sequences agree");
    ExitCode::SUCCESS
}

/// A random number generator without a dependency (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

/// Generates what each operation sends, in the notation of scripts. `mute` before CONNECT is a
/// client that acknowledges nothing on that connection.
fn generate(seed: u64, version: Version) -> Vec<(usize, String)> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut connected = [false; CLIENTS];
    let mut operations = Vec::new();
    let topics = ["a", "b", "a/b", "a/c", "b/c/d", "/", "a/"];
    let filters = [
        "a", "b", "a/+", "a/#", "#", "+", "+/+", "b/c/d", "a/b", "/", "+/c/#",
    ];
    for number in 0..OPERATIONS {
        let client = random.below(CLIENTS as u64) as usize;
        if !connected[client] {
            connected[client] = true;
            let clean = random.below(3) == 0;
            let mute = if random.below(4) == 0 { "mute " } else { "" };
            let mut line = format!("{mute}CONNECT id=c{client} clean={}", u8::from(clean));
            if !clean {
                line.push_str(" session_expiry=1000");
            }
            if random.below(3) == 0 {
                let (topic, qos) = (random.of(&topics), random.below(3));
                let will = format!(" will.topic={topic} will.payload=w{number} will.qos={qos}");
                line.push_str(&will);
            }
            operations.push((client, line));
            continue;
        }
        let line = match random.below(10) {
            0..=2 => {
                // One QoS per client: Mosquitto does not use the highest of overlapping filters.
                let mut line = format!("SUBSCRIBE {} qos={}", random.of(&filters), client % 3);
                if version == Version::V5 {
                    line.push_str(random.of(&["", "", " rh=1", " rh=2"]));
                    // One value per client: the specification does not define it for overlapping
                    // filters.
                    line.push_str(["", " rap", " nl", ""][client]);
                }
                line
            }
            3 => format!("UNSUBSCRIBE {}", random.of(&filters)),
            4 => "DISCONNECT".to_owned(),
            5 => "drop".to_owned(),
            _ => {
                let retain = random.of(&["", "", " retain"]);
                let payload = match random.below(6) {
                    0 if !retain.is_empty() => "\"\"".to_owned(),
                    _ => format!("m{number}"),
                };
                let (topic, qos) = (random.of(&topics), random.below(3));
                format!("PUBLISH {topic} qos={qos}{retain} payload={payload}")
            }
        };
        if matches!(line.as_str(), "DISCONNECT" | "drop") {
            connected[client] = false;
        }
        operations.push((client, line));
    }
    operations
}

/// Packets that each client received as a result of one operation.
type Seen = BTreeMap<usize, Vec<String>>;

fn observe_shards(operations: &[(usize, String)], version: Version) -> Vec<Seen> {
    let wiring = Wiring {
        shards: 3,
        ..Wiring::default()
    };
    let mut stage = VirtualStage::new(&Script::default(), wiring).expect("no settings are wrong");
    observe(&mut stage, operations, version, Duration::ZERO)
}

fn observe_mosquitto(
    operations: &[(usize, String)],
    version: Version,
) -> Result<Vec<Seen>, String> {
    let address = free_port()?;
    let file = std::env::temp_dir().join(format!("differ-{}.conf", address.port()));
    let config = format!(
        "listener {} {}\nallow_anonymous true\n",
        address.port(),
        address.ip()
    );
    std::fs::write(&file, config).map_err(|error| error.to_string())?;
    let mut command = Command::new("/usr/sbin/mosquitto");
    let broker = BrokerProcess::start(command.arg("-c").arg(&file), address)?;
    let mut stage = TcpStage::new(address);
    let seen = observe(&mut stage, operations, version, Duration::from_millis(15));
    drop(broker);
    let _ = std::fs::remove_file(&file);
    Ok(seen)
}

struct Client {
    link: usize,
    buffer: Vec<u8>,
    mute: bool,
    next_id: u64,
}

fn observe(
    stage: &mut dyn Stage,
    operations: &[(usize, String)],
    version: Version,
    pause: Duration,
) -> Vec<Seen> {
    let mut clients: BTreeMap<usize, Client> = BTreeMap::new();
    let mut all = Vec::new();
    for (number, line) in operations {
        let (mute, text) = match line.strip_prefix("mute ") {
            Some(text) => (true, text),
            None => (false, line.as_str()),
        };
        if text == "drop" {
            if let Some(client) = clients.remove(number) {
                stage.end(client.link);
            }
        } else {
            let client = clients.entry(*number).or_insert_with(|| Client {
                link: stage.open().expect("the broker listens"),
                buffer: Vec::new(),
                mute,
                next_id: 1,
            });
            transmit(stage, client, text, version);
        }
        let mut seen = Seen::new();
        let mut quiet = 0;
        while quiet < 2 {
            stage.wait(pause);
            quiet += 1;
            for (number, client) in &mut clients {
                if receive(stage, client, version, seen.entry(*number).or_default()) {
                    quiet = 0;
                }
            }
        }
        if text == "DISCONNECT" {
            clients.remove(number);
        }
        seen.values_mut().for_each(only_what_is_promised);
        seen.retain(|_, packets| !packets.is_empty());
        all.push(seen);
    }
    all
}

fn transmit(stage: &mut dyn Stage, client: &mut Client, text: &str, version: Version) {
    let script = Script::parse("differ", &format!("A: {text}")).expect("a valid line");
    let Act::Send { parts, .. } = &script.steps[0].act else {
        return;
    };
    let Outgoing::Packet(packet) = &parts[0].what else {
        return;
    };
    let encoded = encode(packet, version, client.next_id, 'A', &Variables::new());
    let encoded = encoded.expect("a valid packet");
    client.next_id += u64::from(encoded.packet_id == client.next_id);
    stage
        .send(client.link, &encoded.bytes)
        .expect("the broker is there");
}

/// Reads available packets and acknowledges them. Returns whether there were any.
fn receive(
    stage: &mut dyn Stage,
    client: &mut Client,
    version: Version,
    seen: &mut Vec<String>,
) -> bool {
    let Incoming::Bytes(bytes) = stage.read(client.link, Duration::ZERO) else {
        return false;
    };
    client.buffer.extend_from_slice(&bytes);
    while let Some((packet, used)) = decode(&client.buffer, version).expect("a sound packet") {
        client.buffer.drain(..used);
        let id = packet.number("id").unwrap_or(0);
        let number = |key| packet.number(key).unwrap_or(0);
        let answer = match (packet.name, number("qos")) {
            ("PUBLISH", 1) if !client.mute => Some(format!("PUBACK {id}")),
            ("PUBLISH", 2) if !client.mute => Some(format!("PUBREC {id}")),
            ("PUBREL", _) if !client.mute => Some(format!("PUBCOMP {id}")),
            ("PUBREC", _) => Some(format!("PUBREL {id}")),
            _ => None,
        };
        if let Some(answer) = answer {
            transmit(stage, client, &answer, version);
        }
        let text = |key| match packet.get(key) {
            Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        match packet.name {
            "PUBLISH" => seen.push(format!(
                "PUBLISH {} {} retain={} dup={} qos={}",
                text("topic"),
                text("payload"),
                number("retain"),
                number("dup"),
                number("qos")
            )),
            "CONNACK" => seen.push(format!(
                "CONNACK session_present={}",
                number("session_present")
            )),
            "SUBACK" | "UNSUBACK" => seen.push(packet.render()),
            _ => {}
        }
    }
    true
}

/// Sorts packets, and keeps only the copy of a message with the highest QoS.
fn only_what_is_promised(packets: &mut Vec<String>) {
    packets.sort();
    let key = |text: &String| text.rsplit_once(" qos=").map(|(key, _)| key.to_owned());
    let mut kept: Vec<String> = Vec::new();
    for packet in packets.drain(..) {
        match kept.last_mut() {
            Some(last) if key(last).is_some() && key(last) == key(&packet) => *last = packet,
            _ => kept.push(packet),
        }
    }
    *packets = kept;
}
