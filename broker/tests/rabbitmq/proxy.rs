//! A TCP proxy whose connections can be cut, held up, and refused.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Proxy {
    port: u16,
    weather: Arc<watch::Sender<Weather>>,
}

#[derive(Clone, Copy, Default)]
struct Weather {
    /// Connections made up to this one are cut.
    cut_to: u64,
    /// Connections made up to this one carry nothing any more.
    stalled_to: u64,
    /// New connections are closed at once.
    refusing: bool,
    /// How many connections were made.
    made: u64,
}

impl Proxy {
    /// Stands before the AMQP server of `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let address = url.rsplit('@').next().and_then(|rest| rest.split('/').next()).expect("a host").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        tokio::spawn(accept(listener, address, weather.clone()));
        Self { port, weather }
    }

    /// `url`, through the proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let (user, rest) = url.rsplit_once('@').expect("a user");
        let (_, path) = rest.split_once('/').unwrap_or((rest, ""));
        format!("{user}@127.0.0.1:{}/{path}", self.port)
    }

    /// Cuts all connections there are.
    pub(crate) fn cut(&self) {
        self.weather.send_modify(|weather| weather.cut_to = weather.made);
    }

    /// Carries nothing more on the connections there are, but leaves them open.
    pub(crate) fn stall(&self) {
        self.weather.send_modify(|weather| weather.stalled_to = weather.made);
    }

    /// Lets no new connections through, or does again.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.weather.send_modify(|weather| weather.refusing = refusing);
    }

    /// How many connections were made.
    pub(crate) fn made(&self) -> u64 {
        self.weather.borrow().made
    }
}

async fn accept(listener: TcpListener, address: String, weather: Arc<watch::Sender<Weather>>) {
    while let Ok((client, _)) = listener.accept().await {
        if weather.borrow().refusing {
            continue;
        }
        let mut number = 0;
        weather.send_modify(|weather| {
            weather.made += 1;
            number = weather.made;
        });
        let (address, mut weather) = (address.clone(), weather.subscribe());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(address).await else { return };
            let stall = weather.clone();
            tokio::select! {
                _ = weather.wait_for(|weather| weather.cut_to >= number) => (),
                _ = carry(client, server, stall, number) => (),
            }
        });
    }
}

async fn carry(client: TcpStream, server: TcpStream, stall: watch::Receiver<Weather>, number: u64) -> io::Result<()> {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = copy(from_client, to_server, stall.clone(), number) => ended,
        ended = copy(from_server, to_client, stall, number) => ended,
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    stall: watch::Receiver<Weather>,
    number: u64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let size = from.read(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        if stall.borrow().stalled_to >= number {
            std::future::pending::<()>().await;
        }
        to.write_all(&buffer[..size]).await?;
    }
}
