//! The two ends of a webhook, with which `bench/webhook` compares the sink.
//!
//!     webhook_loop receive                            answers 204 to every request; prints its
//!                                                     port, and the number of requests per line
//!     webhook_loop send URL REQUESTS AT_ONCE BYTES    sends requests, prints how many per second

use std::convert::Infallible;
use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["receive"] => receive().await,
        ["send", url, requests, at_once, bytes] => {
            send(url, requests.parse()?, at_once.parse()?, bytes.parse()?).await
        }
        _ => Err("expected receive, or send URL REQUESTS AT_ONCE BYTES".into()),
    }
}

async fn receive() -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            println!("{}", counted.load(Ordering::Relaxed));
        }
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let count = Arc::clone(&count);
        let answer = service_fn(move |request: Request<Incoming>| {
            let count = Arc::clone(&count);
            async move {
                // Incomplete requests are not counted.
                if request.into_body().collect().await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new();
            // The sender closes its connections when it has finished.
            let _ = served.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// A body like those of the sink.
fn body(number: usize, bytes: usize) -> String {
    format!(
        r#"{{"id":"{number:016}","topic":"plant/1","payload":"{}","qos":1,"retain":false,"client_id":"mosqpub-0123456789","user":null,"device":null,"received_at":"2026-01-01T00:00:00.000Z","repeated":false}}"#,
        "x".repeat(bytes)
    )
}

async fn send(url: &str, requests: usize, at_once: usize, bytes: usize) -> Result<(), Failed> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let tasks = (0..at_once).map(|_| {
        let (client, next, url) = (client.clone(), Arc::clone(&next), url.to_owned());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests {
                    return Ok::<_, reqwest::Error>(());
                }
                let request = client.post(&url).body(body(number, bytes));
                let request = request.header("content-type", "application/json");
                let request = request.header("webhook-id", format!("msg_{number}"));
                request.send().await?.error_for_status()?;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    println!("{:.0}", requests as f64 / begin.elapsed().as_secs_f64());
    Ok(())
}
