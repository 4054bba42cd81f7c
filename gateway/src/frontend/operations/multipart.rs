//! CreateMultipartUpload, CompleteMultipartUpload, AbortMultipartUpload and ListParts.

use std::time::Duration;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, Initiator, ListPartsInput, ListPartsOutput, Owner, Part,
};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::{
    algorithm, checksum_type, details, etag, limit, part_number, set_checksums, signed,
    storage_class, time, write_condition,
};
use super::{Asked, Operations};
use crate::digest::Algorithm;
use crate::frontend::answers::Answer;
use crate::frontend::precheck::Payload;
use crate::repository::{CompletedPart, WriteCondition};
use crate::state::Checksum;

const MAX_PARTS: usize = 10_000;
const MAX_PARTS_TOLD: usize = 1000;

/// After this long a Complete is answered 200 with white space while it goes on, as S3 does: a client
/// that hears nothing for 50 s sends it again.
const PATIENCE: Duration = Duration::from_secs(15);

pub async fn create(
    operations: &Operations,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let to = asked.object()?;
    let details = details(&asked, &request.headers)?;
    let input = request.input;
    let checksum = match &input.checksum_algorithm {
        None => None,
        Some(name) => Some(chosen(&asked, name, input.checksum_type.as_ref())?),
    };
    let upload = operations
        .door()
        .create_upload(caller, to, details, checksum)
        .await
        .map_err(|e| context.fail(&e))?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(to.bucket.as_str().to_owned()),
        key: Some(to.key.as_str().to_owned()),
        upload_id: Some(upload.id),
        checksum_algorithm: input.checksum_algorithm,
        checksum_type: checksum.map(|(_, full)| kind(full)),
        server_side_encryption: input.server_side_encryption,
        ..CreateMultipartUploadOutput::default()
    }))
}

fn kind(full: bool) -> ChecksumType {
    ChecksumType::from_static(if full {
        ChecksumType::FULL_OBJECT
    } else {
        ChecksumType::COMPOSITE
    })
}

/// The algorithm and whether it covers the full object; CRCs may do both, SHAs only parts, CRC-64 only the whole.
fn chosen(
    asked: &Asked,
    name: &ChecksumAlgorithm,
    kind: Option<&ChecksumType>,
) -> S3Result<(Algorithm, bool)> {
    let algorithm = algorithm(asked, name)?;
    let full = match (algorithm, kind.map(ChecksumType::as_str)) {
        (Algorithm::Crc64Nvme, None | Some(ChecksumType::FULL_OBJECT)) => Some(true),
        (Algorithm::Crc64Nvme, Some(_)) => None,
        (_, None | Some(ChecksumType::COMPOSITE)) => Some(false),
        (Algorithm::Crc32 | Algorithm::Crc32c, Some(ChecksumType::FULL_OBJECT)) => Some(true),
        (Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Sha1 | Algorithm::Sha256, Some(_)) => {
            None
        }
    };
    full.map(|full| (algorithm, full)).ok_or_else(|| {
        asked.context.answer(Answer::invalid_request(
            "The checksum type cannot be used with this checksum algorithm.",
        ))
    })
}

pub async fn complete(
    operations: &Operations,
    mut request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let asked = Asked::of(&request)?;
    let listed = request.input.multipart_upload.take().and_then(|m| m.parts);
    let listed = listed.unwrap_or_default();
    if listed.is_empty() || listed.len() > MAX_PARTS {
        return Err(asked.context.answer(Answer::malformed_xml()));
    }
    let parts = listed
        .into_iter()
        .map(|part| completed(&asked, part))
        .collect::<S3Result<Vec<_>>>()?;
    let if_match = request.input.if_match.take();
    let condition = write_condition(&asked, if_match, request.input.if_none_match.as_ref())?;
    let host = request.headers.get("host").and_then(|h| h.to_str().ok());
    let location = format!("http://{}{}", host.unwrap_or_default(), request.uri.path());
    let work = finish(
        operations.clone(),
        asked,
        request.input.upload_id,
        parts,
        condition,
        location,
    );
    let mut work = Box::pin(work);
    match tokio::time::timeout(PATIENCE, &mut work).await {
        Ok(done) => done.map(S3Response::new),
        Err(_) => Ok(S3Response::new(CompleteMultipartUploadOutput {
            future: Some(work),
            ..CompleteMultipartUploadOutput::default()
        })),
    }
}

async fn finish(
    operations: Operations,
    asked: Asked,
    upload: String,
    parts: Vec<CompletedPart>,
    condition: WriteCondition,
    location: String,
) -> S3Result<CompleteMultipartUploadOutput> {
    let Asked { context, caller } = &asked;
    let to = asked.object()?;
    let expected = match &context.checked.payload {
        Payload::Document(document) => document.object.clone(),
        Payload::None | Payload::Upload(_) => None,
    };
    let written = operations
        .door()
        .complete(caller, to, &upload, parts, expected, condition)
        .await
        .map_err(|e| {
            let mut error = context.fail(&e);
            error.set_request_id(&*context.id);
            error
        })?;
    let mut output = CompleteMultipartUploadOutput {
        bucket: Some(to.bucket.as_str().to_owned()),
        key: Some(to.key.as_str().to_owned()),
        e_tag: Some(etag(&written.etag)),
        location: Some(location),
        checksum_type: checksum_type(&written.checksums),
        ..CompleteMultipartUploadOutput::default()
    };
    set_checksums!(output, &written.checksums);
    Ok(output)
}

fn completed(asked: &Asked, part: s3s::dto::CompletedPart) -> S3Result<CompletedPart> {
    let number = part_number(asked, part.part_number.unwrap_or(0))?;
    let Some(etag) = part.e_tag else {
        return Err(asked.context.answer(Answer::malformed_xml()));
    };
    let checksums = [
        (Algorithm::Crc32, part.checksum_crc32),
        (Algorithm::Crc32c, part.checksum_crc32c),
        (Algorithm::Crc64Nvme, part.checksum_crc64nvme),
        (Algorithm::Sha1, part.checksum_sha1),
        (Algorithm::Sha256, part.checksum_sha256),
    ];
    let mut told = checksums.into_iter();
    let checksum = told.find_map(|(algorithm, value)| {
        value.map(|value| Checksum {
            algorithm: algorithm.name().to_owned(),
            value,
        })
    });
    Ok(CompletedPart {
        number,
        etag: etag.into_value(),
        checksum,
    })
}

pub async fn abort(
    operations: &Operations,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let to = asked.object()?;
    operations
        .door()
        .abort(caller, to, &request.input.upload_id)
        .await
        .map_err(|e| context.fail(&e))?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub async fn parts(
    operations: &Operations,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let to = asked.object()?;
    let input = request.input;
    let limit = limit(input.max_parts, MAX_PARTS_TOLD);
    let marker = input.part_number_marker.unwrap_or(0);
    let after = u16::try_from(marker).unwrap_or(u16::MAX);
    // One more than told, to know whether there are more.
    let (upload, mut rows) = operations
        .door()
        .parts(caller, to, &input.upload_id, after, limit + 1)
        .await
        .map_err(|e| context.fail(&e))?;
    let truncated = rows.len() > limit;
    rows.truncate(limit);
    let told = rows.iter().map(|row| {
        let mut part = Part {
            e_tag: Some(etag(&row.etag)),
            last_modified: Some(time(row.modified_ms)),
            part_number: Some(i32::from(row.stored.number)),
            size: Some(signed(row.stored.size)),
            ..Part::default()
        };
        set_checksums!(part, &row.checksums);
        part
    });
    let id = upload.cluster.as_str().to_owned();
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(to.bucket.as_str().to_owned()),
        key: Some(to.key.as_str().to_owned()),
        upload_id: Some(input.upload_id),
        part_number_marker: Some(marker),
        next_part_number_marker: rows.last().map(|row| i32::from(row.stored.number)),
        max_parts: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        is_truncated: Some(truncated),
        parts: Some(told.collect()),
        initiator: Some(Initiator {
            id: Some(id.clone()),
            display_name: Some(id.clone()),
        }),
        owner: Some(Owner {
            id: Some(id.clone()),
            display_name: Some(id),
        }),
        storage_class: Some(storage_class(upload.details.as_deref()).to_owned().into()),
        ..ListPartsOutput::default()
    }))
}
