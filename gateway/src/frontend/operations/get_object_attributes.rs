//! GetObjectAttributes: what OpenSearch's parallel downloads ask before they fetch parts.

use s3s::dto::{
    Checksum, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts,
    ObjectAttributes, ObjectPart, StorageClass,
};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::{
    checksum_type, etag, limit, refuse_version, set_checksums, signed, storage_class, time,
};
use super::{Asked, Operations};
use crate::repository::ReadCondition;
use crate::state::Details;

const MAX_PARTS: usize = 1000;

pub async fn run(
    operations: &Operations,
    request: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let at = asked.object()?;
    let input = request.input;
    refuse_version(&asked, input.version_id.as_deref())?;
    let object = operations
        .door()
        .head(caller, at, &ReadCondition::default())
        .await
        .map_err(|e| context.fail(&e))?;
    let details = object.details.as_deref();
    let wants = |name: &str| {
        let names = input.object_attributes.iter();
        names
            .flat_map(|a| a.as_str().split(','))
            .any(|a| a.trim() == name)
    };
    let mut output = GetObjectAttributesOutput {
        last_modified: Some(time(object.modified_ms)),
        ..GetObjectAttributesOutput::default()
    };
    if wants(ObjectAttributes::ETAG) {
        output.e_tag = Some(etag(&object.etag));
    }
    if wants(ObjectAttributes::OBJECT_SIZE) {
        output.object_size = Some(signed(object.size));
    }
    if wants(ObjectAttributes::STORAGE_CLASS) {
        output.storage_class = Some(StorageClass::from(storage_class(details).to_owned()));
    }
    if let Some(details) = details {
        if wants(ObjectAttributes::CHECKSUM) && !details.checksums.is_empty() {
            let mut checksum = Checksum {
                checksum_type: checksum_type(&details.checksums),
                ..Checksum::default()
            };
            set_checksums!(checksum, &details.checksums);
            output.checksum = Some(checksum);
        }
        if wants(ObjectAttributes::OBJECT_PARTS) && !details.parts.is_empty() {
            let after = input.part_number_marker.unwrap_or(0);
            output.object_parts = Some(parts(details, after, limit(input.max_parts, MAX_PARTS)));
        }
    }
    Ok(S3Response::new(output))
}

fn parts(details: &Details, after: i32, limit: usize) -> GetObjectAttributesParts {
    let mut later = details
        .parts
        .iter()
        .filter(|part| i32::from(part.number) > after);
    let page: Vec<ObjectPart> = later
        .by_ref()
        .take(limit)
        .map(|part| {
            let mut told = ObjectPart {
                part_number: Some(i32::from(part.number)),
                size: Some(signed(part.size)),
                ..ObjectPart::default()
            };
            set_checksums!(told, part.checksum.iter());
            told
        })
        .collect();
    let truncated = later.next().is_some();
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    GetObjectAttributesParts {
        is_truncated: Some(truncated),
        max_parts: Some(number(limit)),
        next_part_number_marker: page.last().and_then(|part| part.part_number),
        part_number_marker: Some(after),
        total_parts_count: Some(number(details.parts.len())),
        parts: Some(page),
    }
}
