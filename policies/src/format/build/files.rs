//! The data of a shard: files with their names, bytes and parts.

use super::known::Stored;
use super::{Cluster, Form};
use crate::format::name::BlobName;
use crate::format::shard::File;
use crate::format::{frame, paths};
use crate::key::{Class, Shard};

impl Cluster {
    pub(super) fn new_file(&mut self, at: usize, number: u32) -> (Stored, Vec<u8>) {
        let name = match self.style.form {
            Form::List | Form::Legacy { sequential: true } => {
                let next = self
                    .highest_sequential(at, number)
                    .map_or(0, |highest| highest + 1);
                format!("__{}", base36(next))
            }
            Form::Legacy { sequential: false } | Form::Uuid { .. } => {
                format!("__{}", self.identifier(22))
            }
        };
        let length = 1 + self.draw() % 90;
        let body = (0..length).map(|_| self.draw() as u8).collect();
        let bytes = frame::close(body);
        let checksum = u32::from_be_bytes(
            bytes[bytes.len() - 4..]
                .try_into()
                .expect("a footer has 16 bytes"),
        );
        let file = File {
            name: BlobName::new(&name),
            length: bytes.len() as u64,
            part_size: self.style.part_size.unwrap_or(File::WHOLE),
            checksum: Some(checksum),
        };
        // The name is taken at once: the next file of the same shard counts on.
        let key = paths::data(&self.directory(at, number), &file.name, None);
        self.objects
            .insert(key, self.data_class(at, number, &file, None));
        (
            Stored {
                file,
                content: None,
            },
            bytes,
        )
    }

    pub(super) fn virtual_file(&mut self) -> Stored {
        let content = frame::close(vec![self.draw() as u8; 8]);
        let file = File {
            name: BlobName::new(&format!("v__{}", self.identifier(22))),
            length: content.len() as u64,
            part_size: File::WHOLE,
            checksum: None,
        };
        Stored {
            file,
            content: Some(content),
        }
    }

    pub(super) fn put_data(&mut self, at: usize, number: u32, file: &File, bytes: &[u8]) {
        let directory = self.directory(at, number);
        if file.parts() > 1 {
            self.objects
                .remove(&paths::data(&directory, &file.name, None));
        }
        let mut rest = bytes;
        for (part, size) in file.objects() {
            let (head, tail) = rest.split_at(size as usize);
            rest = tail;
            self.put(
                paths::data(&directory, &file.name, part),
                self.data_class(at, number, file, part),
                head.to_vec(),
            );
        }
    }

    fn highest_sequential(&self, at: usize, number: u32) -> Option<u64> {
        let prefix = self.directory(at, number) + "__";
        let keys = self
            .objects
            .keys()
            .filter_map(|key| key.as_str().strip_prefix(&prefix));
        keys.filter_map(|name| u64::from_str_radix(name.split(".part").next()?, 36).ok())
            .max()
    }

    fn data_class(&self, at: usize, number: u32, file: &File, part: Option<u64>) -> Class {
        let shard = Shard {
            index: self.indices[at].id.clone(),
            number,
        };
        Class::Data {
            shard,
            blob: file.name.to_string().into(),
            part: part.map(|part| part as u32),
        }
    }
}

pub(super) fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(
            char::from_digit((number % 36) as u32, 36).expect("a remainder of 36 is a digit"),
        );
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}
