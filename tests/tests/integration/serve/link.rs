//! A line to the service that can be cut.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// Passes connections on, until it is dropped.
pub(super) struct Link {
    address: String,
    cut: broadcast::Sender<()>,
    heads: Arc<Mutex<Vec<String>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Link {
    pub(super) async fn to(service: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cut, heads) = (broadcast::Sender::new(1), Arc::<Mutex<Vec<String>>>::default());
        let (cuts, seen, service) = (cut.clone(), heads.clone(), service.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut cut, seen, service) = (cuts.subscribe(), seen.clone(), service.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        _done = pass(client, &service, &seen) => {}
                        _cut = cut.recv() => {}
                    }
                });
            }
        });
        Self { address, cut, heads, accepting }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Breaks every connection that is open.
    pub(super) fn cut(&self) {
        let _nobody = self.cut.send(());
    }

    /// Returns what clients have sent, in pieces as they came: heads, and bodies behind them.
    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn pass(client: TcpStream, service: &str, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut of_client, mut to_client) = client.into_split();
    let (mut of_service, mut to_service) = TcpStream::connect(service).await?.into_split();
    let asked = async {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = of_client.read(&mut piece).await?;
            if count == 0 {
                return to_service.shutdown().await;
            }
            let text = String::from_utf8_lossy(&piece[..count]).to_lowercase();
            seen.lock().unwrap().push(text);
            to_service.write_all(&piece[..count]).await?;
        }
    };
    let answered = async { copy(&mut of_service, &mut to_client).await.map(drop) };
    tokio::try_join!(asked, answered).map(drop)
}
