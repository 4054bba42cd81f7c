//! What the service holds, and its right answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::{Asked, Open, Reply, Stored, World, error, meta_of, reply, with_tag};
use crate::stores::s3::{names, xml};

impl World {
    pub(super) fn act(&mut self, asked: &Asked) -> Reply {
        match asked.operation {
            "HeadBucket" => reply(200, ""),
            "HeadObject" | "GetObject" => self.read(asked),
            "PutObject" => self.put(asked),
            "CopyObject" => self.copy(asked),
            "DeleteObject" => {
                self.objects.remove(&asked.key);
                reply(204, "")
            }
            "DeleteObjects" => self.delete(asked),
            "ListObjectsV2" => self.list(asked),
            "CreateMultipartUpload" => self.create(asked),
            "ListMultipartUploads" => self.list_uploads(asked),
            _ => self.of_upload(asked),
        }
    }

    fn refused(&self, asked: &Asked) -> Option<Reply> {
        if self.lacks.conditions {
            return None;
        }
        let tag = self
            .objects
            .get(&asked.key)
            .map(|object| format!("\"{}\"", object.tag));
        let taken = asked.headers.contains_key("if-none-match") && tag.is_some();
        let expected = asked
            .headers
            .get("if-match")
            .map(|value| value.to_str().unwrap().to_owned());
        let changed = expected.is_some_and(|expected| tag != Some(expected));
        (taken || changed).then(|| error(412, "PreconditionFailed"))
    }

    fn read(&self, asked: &Asked) -> Reply {
        let Some(object) = self.objects.get(&asked.key) else {
            return if asked.operation == "HeadObject" {
                reply(404, "")
            } else {
                error(404, "NoSuchKey")
            };
        };
        if let Some(refused) = self.refused(asked) {
            return refused;
        }
        let size = object.bytes.len();
        let mut answer = if asked.operation == "HeadObject" {
            let mut answer = reply(200, "");
            answer.headers_mut().insert("content-length", size.into());
            answer
        } else if let Some(range) = asked.headers.get("range") {
            let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            if first >= size {
                return error(416, "InvalidRange");
            }
            let last = last.min(size - 1);
            let mut answer = reply(206, object.bytes.slice(first..=last));
            let text = format!("bytes {first}-{last}/{size}");
            answer
                .headers_mut()
                .insert("content-range", text.parse().unwrap());
            answer
        } else {
            reply(200, object.bytes.clone())
        };
        for (name, value) in &object.meta {
            let name: http::HeaderName = name.parse().unwrap();
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        let date = "Wed, 25 Nov 2026 16:00:00 GMT";
        answer
            .headers_mut()
            .insert("last-modified", date.parse().unwrap());
        with_tag(answer, &object.tag)
    }

    fn put(&mut self, asked: &Asked) -> Reply {
        if let Some(refused) = self.refused(asked) {
            return refused;
        }
        let digest = Md5::digest(&asked.body);
        if let Some(sent) = asked.headers.get("content-md5")
            && !self.lacks.checksums
            && sent.to_str().unwrap() != STANDARD.encode(digest)
        {
            return error(400, "BadDigest");
        }
        let tag = hex::encode(digest);
        let answer = with_tag(reply(200, ""), &tag);
        let bytes = asked.body.clone();
        let meta = meta_of(&asked.headers);
        self.objects
            .insert(asked.key.clone(), Stored { bytes, tag, meta });
        answer
    }

    fn copy(&mut self, asked: &Asked) -> Reply {
        if let Some(refused) = self.refused(asked) {
            return refused;
        }
        let source = asked.headers["x-amz-copy-source"].to_str().unwrap();
        let source = percent_encoding::percent_decode_str(source)
            .decode_utf8()
            .unwrap();
        let source = source.strip_prefix("/bucket/").unwrap();
        let Some(mut copied) = self.objects.get(source).cloned() else {
            return error(404, "NoSuchKey");
        };
        copied.tag = hex::encode(Md5::digest(&copied.bytes));
        copied.meta = meta_of(&asked.headers);
        let tag = copied.tag.clone();
        self.objects.insert(asked.key.clone(), copied);
        reply(
            200,
            format!("<CopyObjectResult><ETag>\"{tag}\"</ETag></CopyObjectResult>"),
        )
    }

    fn delete(&mut self, asked: &Asked) -> Reply {
        if self.lacks.batches {
            return error(501, "NotImplemented");
        }
        assert!(
            asked.headers.contains_key("content-md5"),
            "S3 demands a checksum"
        );
        let root = xml::parse_as("Delete", &asked.body).unwrap();
        let mut answer = "<DeleteResult>".to_owned();
        for object in root.all("Object") {
            let key = object.text_of("Key").unwrap();
            self.objects.remove(key);
            answer.push_str("<Deleted><Key>");
            xml::push_escaped(&mut answer, key);
            answer.push_str("</Key></Deleted>");
        }
        answer.push_str("</DeleteResult>");
        reply(200, answer)
    }

    fn list(&self, asked: &Asked) -> Reply {
        let after = asked
            .query
            .get("continuation-token")
            .or(asked.query.get("start-after"));
        let after = after.cloned().unwrap_or_default();
        let most: usize = asked.query["max-keys"].parse().unwrap();
        let most = most.min(self.page);
        let mut found = self.objects.iter().filter(|(key, _)| {
            key.starts_with(&asked.query["prefix"]) && key.as_str() > after.as_str()
        });
        let mut text = String::from("<ListBucketResult><EncodingType>url</EncodingType>");
        let mut last = "";
        for (key, object) in found.by_ref().take(most) {
            last = key;
            let mut encoded = String::new();
            names::push_path(&mut encoded, key);
            let (size, tag) = (object.bytes.len(), &object.tag);
            text.push_str(&format!(
                "<Contents><Key>{encoded}</Key><LastModified>2026-11-25T16:00:00.000Z</LastModified><ETag>&quot;{tag}&quot;</ETag><Size>{size}</Size></Contents>"
            ));
        }
        let more = found.next().is_some();
        text.push_str(&format!("<IsTruncated>{more}</IsTruncated>"));
        if more {
            text.push_str("<NextContinuationToken>");
            xml::push_escaped(&mut text, last);
            text.push_str("</NextContinuationToken>");
        }
        text.push_str("</ListBucketResult>");
        reply(200, text)
    }

    fn create(&mut self, asked: &Asked) -> Reply {
        self.made += 1;
        let id = format!("u{:06}", self.made);
        let open = Open {
            key: asked.key.clone(),
            meta: meta_of(&asked.headers),
            ..Open::default()
        };
        self.uploads.insert(id.clone(), open);
        let root = "InitiateMultipartUploadResult";
        reply(200, format!("<{root}><UploadId>{id}</UploadId></{root}>"))
    }

    fn list_uploads(&self, asked: &Asked) -> Reply {
        let after = asked
            .query
            .get("upload-id-marker")
            .cloned()
            .unwrap_or_default();
        let mut text = "<ListMultipartUploadsResult>".to_owned();
        let mut found = self.uploads.iter().filter(|(id, _)| **id > after);
        let mut last = None;
        for (id, open) in found.by_ref().take(self.page) {
            let key = &open.key;
            text.push_str(&format!(
                "<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>"
            ));
            last = Some((key, id));
        }
        let more = found.next().is_some();
        if let Some((key, id)) = last.filter(|_| more) {
            text.push_str(&format!(
                "<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>"
            ));
        }
        text.push_str(&format!(
            "<IsTruncated>{more}</IsTruncated></ListMultipartUploadsResult>"
        ));
        reply(200, text)
    }

    fn of_upload(&mut self, asked: &Asked) -> Reply {
        let id = &asked.query["uploadId"];
        if !self.uploads.contains_key(id) {
            return error(404, "NoSuchUpload");
        }
        match asked.operation {
            "UploadPart" => {
                let number = asked.query["partNumber"].parse().unwrap();
                let tag = hex::encode(Md5::digest(&asked.body));
                let answer = with_tag(reply(200, ""), &tag);
                let open = self.uploads.get_mut(id).unwrap();
                open.parts.insert(number, (asked.body.clone(), tag));
                answer
            }
            "ListParts" => reply(200, "<ListPartsResult/>"),
            "AbortMultipartUpload" => {
                if !self.lacks.aborting {
                    self.uploads.remove(id);
                }
                reply(204, "")
            }
            "CompleteMultipartUpload" => self.complete(asked, id),
            other => panic!("unexpected {other}"),
        }
    }

    fn complete(&mut self, asked: &Asked, id: &str) -> Reply {
        if let Some(refused) = self.refused(asked) {
            return refused;
        }
        let root = xml::parse_as("CompleteMultipartUpload", &asked.body).unwrap();
        let open = &self.uploads[id];
        let (mut bytes, mut digests, mut count) = (Vec::new(), Vec::new(), 0);
        for part in root.all("Part") {
            let number: u16 = part.text_of("PartNumber").unwrap().parse().unwrap();
            let tag = part.text_of("ETag").unwrap().trim_matches('"');
            match open.parts.get(&number) {
                Some((stored, has)) if has == tag => {
                    bytes.extend_from_slice(stored);
                    digests.extend(hex::decode(has).unwrap());
                    count += 1;
                }
                Some(_) | None => return error(400, "InvalidPart"),
            }
        }
        let tag = format!("{}-{count}", hex::encode(Md5::digest(&digests)));
        let open = self.uploads.remove(id).unwrap();
        let stored = Stored {
            bytes: bytes.into(),
            tag: tag.clone(),
            meta: open.meta,
        };
        self.objects.insert(open.key, stored);
        let root = "CompleteMultipartUploadResult";
        reply(
            200,
            format!("<{root}><ETag>&quot;{tag}&quot;</ETag></{root}>"),
        )
    }
}
