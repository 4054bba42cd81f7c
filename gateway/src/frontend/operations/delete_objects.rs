//! DeleteObjects: up to 1,000 keys, each with its own verdict. Those with an ETag to compare go one by one.

use policies::key::{InvalidKey, ObjectKey};
use s3s::dto::{
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, Error as KeyError, ObjectIdentifier,
};
use s3s::{S3Request, S3Response, S3Result};

use super::{Asked, Operations};
use crate::frontend::answers::Answer;
use crate::frontend::precheck::Rejection;
use crate::repository::{Address, Error};

const MAX_KEYS: usize = 1000;

pub async fn run(
    operations: &Operations,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let bucket = asked.bucket()?;
    let delete = request.input.delete;
    if delete.objects.is_empty() || delete.objects.len() > MAX_KEYS {
        return Err(context.answer(Answer::malformed_xml()));
    }
    let quiet = delete.quiet.unwrap_or(false);
    let Sorted {
        keys,
        mut names,
        conditional,
        mut errors,
    } = Sorted::of(delete.objects);
    let mut deleted = Vec::new();
    let mut verdicts = operations
        .door()
        .delete(caller, bucket, keys)
        .await
        .map_err(|e| context.fail(&e))?;
    for (name, key, etag) in conditional {
        let at = Address {
            bucket: bucket.clone(),
            key,
        };
        names.push(name);
        verdicts.push(operations.door().delete_if(caller, &at, &etag).await);
    }
    for (name, verdict) in names.into_iter().zip(verdicts) {
        match verdict {
            Ok(()) if quiet => {}
            Ok(()) => deleted.push(DeletedObject {
                key: Some(name),
                ..DeletedObject::default()
            }),
            Err(error) => {
                if let Error::Refused(refusal) = &error {
                    context.refused(refusal.label());
                }
                errors.push(key_error(name, Answer::from(&error)));
            }
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: (!deleted.is_empty()).then_some(deleted),
        errors: (!errors.is_empty()).then_some(errors),
        ..DeleteObjectsOutput::default()
    }))
}

/// The keys of a request, by how they are deleted.
#[derive(Default)]
struct Sorted {
    /// All at once.
    keys: Vec<ObjectKey>,
    /// `keys` as they were sent.
    names: Vec<String>,
    /// One by one: as sent, the key, the ETag to compare.
    conditional: Vec<(String, ObjectKey, String)>,
    errors: Vec<KeyError>,
}

impl Sorted {
    fn of(objects: Vec<ObjectIdentifier>) -> Self {
        let mut sorted = Self::default();
        for object in objects {
            let timed = object.last_modified_time.is_some() || object.size.is_some();
            let versioned = object.version_id.as_deref().is_some_and(|v| v != "null");
            if timed || versioned {
                let answer = Answer::not_implemented(
                    "Of the conditions on deletes, the ETag is implemented; versions do not exist.",
                );
                sorted.errors.push(key_error(object.key, answer));
                continue;
            }
            match (ObjectKey::parse(&object.key), object.e_tag) {
                (Ok(key), Some(etag)) => {
                    let one = (object.key, key, etag.into_value());
                    sorted.conditional.push(one);
                }
                (Ok(key), None) => {
                    sorted.keys.push(key);
                    sorted.names.push(object.key);
                }
                (Err(why), _) => {
                    let answer = Answer::from(&rejection(why));
                    sorted.errors.push(key_error(object.key, answer));
                }
            }
        }
        sorted
    }
}

fn rejection(why: InvalidKey) -> Rejection {
    match why {
        InvalidKey::TooLong => Rejection::KeyTooLong,
        InvalidKey::Empty => Rejection::BadUri("the key is empty"),
        InvalidKey::NotText => Rejection::BadUri("the key contains NUL"),
    }
}

fn key_error(key: String, answer: Answer) -> KeyError {
    KeyError {
        code: Some(answer.code.into_owned()),
        key: Some(key),
        message: Some(answer.message.into_owned()),
        ..KeyError::default()
    }
}
