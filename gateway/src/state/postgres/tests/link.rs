//! A node's way to its server, which can be cut, or let nothing through.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::server::{Server, url_at};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Open,
    Cut,
    /// Connections are accepted and kept; nothing gets through.
    Silent,
}

pub(crate) struct Link {
    server: &'static Server,
    database: String,
    port: u16,
    way: watch::Sender<Way>,
}

impl Link {
    /// To a database of the shared server.
    pub async fn to(database: &str) -> Self {
        let server = Server::shared();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (way, seen) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.port, seen.clone()));
            }
        });
        Self {
            server,
            database: database.to_owned(),
            port,
            way,
        }
    }

    pub fn url(&self) -> String {
        url_at(self.port, &self.database)
    }

    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    pub fn silence(&self) {
        self.way.send_replace(Way::Silent);
    }

    pub fn heal(&self) {
        self.way.send_replace(Way::Open);
    }

    /// What the server knows of its nodes is an hour old.
    pub async fn nobody_was_heard_for_an_hour(&self) {
        let operator = self.server.connect(&self.database).await;
        let older = "UPDATE nodes SET alive_at = alive_at - interval '1 hour'";
        operator.batch_execute(older).await.unwrap();
    }
}

async fn carry(mut client: TcpStream, server: u16, mut way: watch::Receiver<Way>) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    loop {
        let now = *way.borrow_and_update();
        let told = match now {
            Way::Cut => return,
            Way::Silent => way.changed().await,
            Way::Open => tokio::select! {
                _ended = copy_bidirectional(&mut client, &mut server) => return,
                told = way.changed() => told,
            },
        };
        if told.is_err() {
            return;
        }
    }
}
