//! What one operation of a row is, and what has to lie in the bucket for it.
//!
//! Invariant: an operation checks its answer (length of a GET, number of keys of a LIST), so that a server
//! that answers quickly but wrongly fails the row; everything written is remembered and removed afterwards,
//! outside the measured time.

use std::fmt::Write as _;
use std::sync::Arc;

use http::Method;

use crate::client::{Answer, Call, Connection, Content, Error};
use crate::keys::{self, KIB, MIB, Naming};
use crate::payload::Payloads;

#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// PUT of an object of this size.
    Put(usize, Naming),
    /// GET of one of several objects of this size.
    Get(usize),
    /// An object of this size in parts of [`PART`].
    Multipart(usize),
    /// One page with this many keys of a shard's directory.
    List(usize),
    /// One page with this many index folders of [`BELOW`] keys each.
    Folders(usize),
    /// One multi-object delete of this many keys.
    Delete(usize),
    /// What a cluster does: blobs in a snapshot's proportions, restores, listings, deletes.
    Cluster,
}

/// Part size of multipart uploads: between the clusters' smallest (5 MiB) and largest (100 MiB).
pub const PART: usize = 16 * MIB;

/// Size of the objects that listings and deletes are about: their bytes are not the point.
const SMALL: usize = KIB;
/// Keys in each folder of [`Work::Folders`].
const BELOW: usize = 10;
/// One multi-object delete takes so many keys at most.
const DELETE_LIMIT: usize = 1000;
/// Uploads above this size are multipart in the cluster-shaped load.
const MULTIPART_FROM: usize = PART;

impl Work {
    /// The payload sizes it sends.
    pub fn payloads(self) -> Payloads {
        let sizes: Vec<usize> = match self {
            Self::Put(size, _) | Self::Get(size) => vec![size],
            Self::Multipart(size) => vec![size.min(PART)],
            Self::List(_) | Self::Folders(_) | Self::Delete(_) => vec![SMALL],
            Self::Cluster => keys::SIZES
                .iter()
                .map(|(size, _)| *size)
                .filter(|size| *size <= MULTIPART_FROM)
                .collect(),
        };
        Payloads::of(&sizes)
    }

    /// What lies in the bucket while it runs.
    fn stock(self) -> (usize, usize) {
        match self {
            Self::Get(size) if size >= 64 * MIB => (4, size),
            Self::Get(size) if size >= MIB => (64, size),
            Self::Get(size) => (1000, size),
            Self::List(keys) => (keys, SMALL),
            Self::Folders(folders) => (folders * BELOW, SMALL),
            Self::Put(..) | Self::Multipart(_) | Self::Delete(_) | Self::Cluster => (0, 0),
        }
    }

    /// How many operations one worker may do before the bucket must be filled again: what is deleted must
    /// have been written, outside the measured time.
    pub fn batch(self) -> Option<usize> {
        match self {
            Self::Delete(_) => Some(2),
            Self::Put(..)
            | Self::Get(_)
            | Self::Multipart(_)
            | Self::List(_)
            | Self::Folders(_)
            | Self::Cluster => None,
        }
    }
}

/// What lies in the bucket before a row begins.
#[derive(Debug, Default)]
pub struct Stock {
    /// What listings list.
    pub shard: String,
    pub keys: Vec<String>,
}

/// Fills the bucket for `work`.
pub async fn stock(work: Work, payloads: &Payloads, on: &mut Connection) -> Result<Stock, Error> {
    let (count, size) = work.stock();
    let folders = matches!(work, Work::Folders(_));
    let mut shard = on.target().key(&keys::shard());
    let mut names = Vec::with_capacity(count);
    for number in 0..count {
        if folders && number % BELOW == 0 {
            shard = on.target().key(&keys::shard());
        }
        let key = keys::name(Naming::Data, &shard);
        put(on, &key, Content::Payload(Arc::clone(payloads.get(size)))).await?;
        names.push(key);
    }
    if folders {
        shard = on.target().key(keys::INDICES);
    }
    Ok(Stock { shard, keys: names })
}

/// Removes keys, unmeasured.
pub async fn remove(on: &mut Connection, keys: &[String]) -> Result<(), Error> {
    for keys in keys.chunks(DELETE_LIMIT) {
        delete(on, keys).await?;
    }
    Ok(())
}

/// One connection's share of a row.
#[derive(Debug)]
pub struct Worker {
    pub connection: Connection,
    work: Work,
    payloads: Arc<Payloads>,
    stock: Arc<Stock>,
    shard: String,
    /// What this worker wrote and did not delete.
    pub written: Vec<String>,
    step: usize,
}

impl Worker {
    pub fn new(
        connection: Connection,
        work: Work,
        payloads: Arc<Payloads>,
        stock: Arc<Stock>,
    ) -> Self {
        let shard = connection.target().key(&keys::shard());
        Self {
            connection,
            work,
            payloads,
            stock,
            shard,
            written: Vec::new(),
            step: rand::random_range(0..1000),
        }
    }

    /// Writes what the next [`Work::batch`] operations delete.
    pub async fn refill(&mut self) -> Result<(), Error> {
        if let Work::Delete(keys) = self.work {
            for _ in 0..keys * self.work.batch().unwrap_or(0) {
                self.put_new(SMALL, Naming::Data).await?;
            }
        }
        Ok(())
    }

    /// One operation; returns the object bytes it moved.
    pub async fn operate(&mut self) -> Result<u64, Error> {
        self.step += 1;
        match self.work {
            Work::Put(size, naming) => self.put_new(size, naming).await,
            Work::Get(size) => {
                let key = &self.stock.keys[self.step * 7 % self.stock.keys.len()];
                get(&mut self.connection, key, size as u64).await
            }
            Work::Multipart(size) => self.multipart(size).await,
            Work::List(keys) => {
                list(&mut self.connection, &self.stock.shard, b"<Key>", keys).await?;
                Ok(0)
            }
            Work::Folders(folders) => {
                let told = b"<CommonPrefixes>";
                list(&mut self.connection, &self.stock.shard, told, folders).await?;
                Ok(0)
            }
            Work::Delete(keys) => {
                let rest = self.written.len().saturating_sub(keys);
                let batch = self.written.split_off(rest);
                delete(&mut self.connection, &batch).await?;
                Ok(0)
            }
            Work::Cluster => self.cluster().await,
        }
    }

    /// Twenty blobs, eight reads, one listing, one delete: the life of a small snapshot.
    async fn cluster(&mut self) -> Result<u64, Error> {
        match self.step % 30 {
            0..20 => {
                let size = keys::blob_size(rand::random_range(0..100));
                if size > MULTIPART_FROM {
                    self.multipart(size).await
                } else {
                    self.put_new(size, Naming::Data).await
                }
            }
            20..28 => match self.written.last() {
                Some(key) => read(&mut self.connection, key).await,
                None => self.put_new(self.payloads_min(), Naming::Data).await,
            },
            28 => {
                page(&mut self.connection, &self.shard).await?;
                Ok(0)
            }
            _ => {
                let batch = self.written.split_off(self.written.len() / 2);
                if !batch.is_empty() {
                    remove(&mut self.connection, &batch).await?;
                }
                Ok(0)
            }
        }
    }

    fn payloads_min(&self) -> usize {
        keys::SIZES[0].0
    }

    async fn put_new(&mut self, size: usize, naming: Naming) -> Result<u64, Error> {
        let key = match naming {
            Naming::Data => keys::name(naming, &self.shard),
            Naming::Commit => self.connection.target().key(&keys::name(naming, "")),
        };
        let payload = Arc::clone(self.payloads.get(size));
        put(&mut self.connection, &key, Content::Payload(payload)).await?;
        self.written.push(key);
        Ok(size as u64)
    }

    async fn multipart(&mut self, size: usize) -> Result<u64, Error> {
        let key = keys::name(Naming::Data, &self.shard);
        let on = &mut self.connection;
        let begun = call(
            on,
            Method::POST,
            Some(&key),
            &[("uploads", "")],
            Content::None,
        )
        .await?;
        let upload = element(&begun, "UploadId")?;
        let mut xml = String::from("<CompleteMultipartUpload>");
        for number in 1..=size / PART {
            let part = Content::Payload(Arc::clone(self.payloads.get(PART)));
            let number = number.to_string();
            let query = [("partNumber", number.as_str()), ("uploadId", &upload)];
            let answer = call(on, Method::PUT, Some(&key), &query, part).await?;
            let etag = answer.etag.unwrap_or_default();
            write!(
                xml,
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            )
            .expect("a string takes everything");
        }
        xml.push_str("</CompleteMultipartUpload>");
        let query = [("uploadId", upload.as_str())];
        call(
            on,
            Method::POST,
            Some(&key),
            &query,
            Content::Document(xml.into()),
        )
        .await?;
        self.written.push(key);
        Ok(size as u64)
    }
}

async fn call(
    on: &mut Connection,
    method: Method,
    key: Option<&str>,
    query: &[(&str, &str)],
    content: Content,
) -> Result<Answer, Error> {
    on.call(Call {
        method,
        key,
        query,
        content,
    })
    .await
}

async fn put(on: &mut Connection, key: &str, content: Content) -> Result<(), Error> {
    call(on, Method::PUT, Some(key), &[], content).await?;
    Ok(())
}

async fn read(on: &mut Connection, key: &str) -> Result<u64, Error> {
    Ok(call(on, Method::GET, Some(key), &[], Content::None)
        .await?
        .length)
}

async fn get(on: &mut Connection, key: &str, size: u64) -> Result<u64, Error> {
    match read(on, key).await? {
        length if length == size => Ok(size),
        length => Err(Error::Unexpected {
            what: format!("GET {key} brought {length} bytes"),
            expected: format!("{size}"),
        }),
    }
}

/// One page of a directory as clusters list it.
async fn page(on: &mut Connection, shard: &str) -> Result<Answer, Error> {
    let query = [("delimiter", "/"), ("list-type", "2"), ("prefix", shard)];
    call(on, Method::GET, None, &query, Content::None).await
}

async fn list(on: &mut Connection, shard: &str, told: &[u8], entries: usize) -> Result<(), Error> {
    let answer = page(on, shard).await?;
    match memchr::memmem::find_iter(&answer.body, told).count() {
        count if count == entries => Ok(()),
        count => Err(Error::Unexpected {
            what: format!("LIST {shard} brought {count} entries"),
            expected: format!("{entries}"),
        }),
    }
}

async fn delete(on: &mut Connection, keys: &[String]) -> Result<(), Error> {
    let mut xml = String::with_capacity(64 + keys.len() * 128);
    xml.push_str("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
    for key in keys {
        for part in ["<Object><Key>", key, "</Key></Object>"] {
            xml.push_str(part);
        }
    }
    xml.push_str("</Delete>");
    let document = Content::Document(xml.into());
    call(on, Method::POST, None, &[("delete", "")], document).await?;
    Ok(())
}

/// Makes the bucket; the names here need no XML.
pub async fn create_bucket(on: &mut Connection) -> Result<(), Error> {
    call(on, Method::PUT, None, &[], Content::None).await?;
    Ok(())
}

fn element(answer: &Answer, name: &str) -> Result<String, Error> {
    let text = String::from_utf8_lossy(&answer.body);
    let inside = text
        .split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{name}>")))
        .map(|(inside, _)| inside.to_owned());
    inside.ok_or_else(|| Error::Unexpected {
        what: format!("answer {text}"),
        expected: format!("<{name}>"),
    })
}
