//! A TCP proxy before a server, whose connections can be cut, and made to carry nothing without either side being told.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy, which serves until the runtime ends.
pub(crate) struct Proxy {
    port: u16,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    made: u64,
    connections: BTreeMap<u64, watch::Sender<Flow>>,
}

/// How a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// As connections are.
    Carrying,
    /// Carries nothing, not even that it was closed.
    Holding,
    /// To be closed on both sides.
    Cut,
}

impl Proxy {
    /// Stands before the server on that port of this machine.
    pub(crate) async fn before(server: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let open = Arc::new(Mutex::new(Open::default()));
        tokio::spawn(accept(listener, SocketAddr::from((Ipv4Addr::LOCALHOST, server)), Arc::clone(&open)));
        Ok(Self { port, open })
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// How many connections carry something.
    pub(crate) fn carrying(&self) -> usize {
        lock(&self.open).connections.values().filter(|flow| *flow.borrow() == Flow::Carrying).count()
    }

    /// Cuts one in so many connections.
    pub(crate) fn cut(&self, one_in: u64) {
        self.turn(one_in, Flow::Cut);
    }

    /// Lets one in so many connections carry nothing any more; which those are.
    pub(crate) fn hold(&self, one_in: u64) -> Vec<u64> {
        self.turn(one_in, Flow::Holding)
    }

    /// Lets these connections carry again what they held up, and what comes.
    pub(crate) fn resume(&self, held: &[u64]) {
        let open = lock(&self.open);
        for flow in held.iter().filter_map(|number| open.connections.get(number)) {
            flow.send_if_modified(|flow| std::mem::replace(flow, Flow::Carrying) == Flow::Holding);
        }
    }

    fn turn(&self, one_in: u64, to: Flow) -> Vec<u64> {
        let open = lock(&self.open);
        // Those that hold already are none that anybody still relies on.
        let carrying = open.connections.iter().filter(|(_, flow)| *flow.borrow() == Flow::Carrying);
        let chosen: Vec<_> = carrying.step_by(usize::try_from(one_in).unwrap_or(1)).collect();
        for (_, flow) in &chosen {
            flow.send_replace(to);
        }
        chosen.into_iter().map(|(number, _)| *number).collect()
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, server: SocketAddr, open: Arc<Mutex<Open>>) {
    loop {
        // An error is one of that connection, or passes: too many files are open.
        let Ok((client, _)) = listener.accept().await else { continue };
        let (sender, flow) = watch::channel(Flow::Carrying);
        let number = {
            let mut open = lock(&open);
            open.made += 1;
            let number = open.made;
            open.connections.insert(number, sender);
            number
        };
        let open = Arc::clone(&open);
        tokio::spawn(async move {
            // Either side may end it, as connections do.
            carry(client, server, flow).await.ok();
            lock(&open).connections.remove(&number);
        });
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut flow: watch::Receiver<Flow>) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = (flow.clone(), flow.clone());
    tokio::select! {
        biased;
        _ = flow.wait_for(|flow| *flow == Flow::Cut) => Ok(()),
        ended = copy(from_client, to_server, up) => ended,
        ended = copy(from_server, to_client, down) => ended,
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<Flow>) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        // Ends and errors are held up as well.
        flow.wait_for(|flow| *flow != Flow::Holding).await.map_err(io::Error::other)?;
        match read? {
            0 => return Ok(()),
            size => to.write_all(&buffer[..size]).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    /// Two connections through a proxy, to a server that says back what it hears.
    async fn stage() -> (Proxy, [TcpStream; 2]) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = server.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = server.accept().await {
                let (mut from, mut to) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
            }
        });
        let proxy = Proxy::before(port).await.unwrap();
        let mut connections = Vec::new();
        for _ in 0..2 {
            let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap();
            assert_eq!(echo(&mut connection).await, Some(7));
            connections.push(connection);
        }
        (proxy, connections.try_into().unwrap())
    }

    /// What comes back; nothing when the connection ended.
    async fn echo(connection: &mut TcpStream) -> Option<u8> {
        connection.write_all(&[7]).await.ok()?;
        connection.read_u8().await.ok()
    }

    #[tokio::test]
    async fn one_in_two_is_cut() {
        let (proxy, [mut first, mut second]) = stage().await;
        proxy.cut(2);
        assert_eq!(echo(&mut first).await, None);
        assert_eq!(echo(&mut second).await, Some(7));
    }

    #[tokio::test]
    async fn what_was_held_up_comes_after_all() {
        let (proxy, [mut first, mut second]) = stage().await;
        let held = proxy.hold(2);
        assert_eq!(held.len(), 1);
        first.write_all(&[8]).await.unwrap();
        let mut nothing = [0];
        let waiting = tokio::time::timeout(Duration::from_millis(50), first.read(&mut nothing)).await;
        assert!(waiting.is_err(), "{waiting:?}");
        assert_eq!(echo(&mut second).await, Some(7));
        proxy.resume(&held);
        assert_eq!(first.read_u8().await.unwrap(), 8);
        assert_eq!(proxy.carrying(), 2);
    }
}
