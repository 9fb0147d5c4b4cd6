//! Stacks as a release build on tokio makes them: a server and its clients on one work-stealing runtime, tasks that spawn
//! tasks, timers, channels, blocking tasks. Runs until its input ends.

use std::{collections::HashMap, io, io::Read as _, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    runtime,
    sync::{mpsc, oneshot},
    task, time,
};

/// What a connection asks of the one task that keeps everything.
struct Ask {
    key: String,
    answer: oneshot::Sender<Vec<String>>,
}

async fn keep(mut asks: mpsc::Receiver<Ask>) {
    let mut known: HashMap<String, Vec<String>> = HashMap::new();
    while let Some(Ask { key, answer }) = asks.recv().await {
        let values = known.entry(key.clone()).or_default();
        if values.len() > 16 {
            values.clear();
        }
        values.push(key);
        let _ = answer.send(values.clone());
    }
}

async fn serve(stream: TcpStream, asks: mpsc::Sender<Ask>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(key) = lines.next_line().await? {
        let (answer, answered) = oneshot::channel();
        if asks.send(Ask { key, answer }).await.is_err() {
            return Ok(());
        }
        let values = answered.await.unwrap_or_default();
        let joined = task::spawn_blocking(move || {
            let mut values = values;
            values.sort_by_key(|it| it.chars().rev().collect::<String>());
            values.join(",")
        });
        let line = joined.await.unwrap_or_default() + "\n";
        writer.write_all(line.as_bytes()).await?;
    }
    Ok(())
}

async fn ask(number: usize, server: SocketAddr) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(server).await?);
    for round in 0..50 {
        let line = format!("{}\n", (number * 31 + round) % 23);
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        time::sleep(Duration::from_micros(500)).await;
    }
    Ok(())
}

async fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    let (asks, queue) = mpsc::channel(8);
    tokio::spawn(keep(queue));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, asks.clone()));
        }
    });
    for client in 0..3 {
        tokio::spawn(async move {
            for number in 0.. {
                // Each is another task, so that tasks are made and dropped.
                let _ = tokio::spawn(ask(number * 3 + client, server)).await;
            }
        });
    }
    println!("ready {}", std::process::id());
    let ended = task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = ended.await;
    Ok(())
}

fn main() -> io::Result<()> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(run());
    runtime.shutdown_background();
    ended
}
