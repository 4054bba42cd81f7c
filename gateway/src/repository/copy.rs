//! Copies: a read by the caller's right to read, then a write by its right to write.

use futures::StreamExt;

use super::{
    Address, Body, BodyError, Caller, Door, Error, RangeSpec, ReadCondition, Retrieved,
    WriteCondition, Written,
};
use crate::digest::Algorithm;
use crate::state::Details;

impl Door {
    /// `replace` = the details of the new object; None takes over those of the source. `wanted` = the checksum to keep with it;
    /// None takes the algorithm of the source's.
    #[expect(clippy::too_many_arguments, reason = "the arguments of CopyObject")]
    pub async fn copy(
        &self,
        caller: &Caller,
        from: &Address,
        from_condition: &ReadCondition,
        to: &Address,
        replace: Option<Details>,
        wanted: Option<Algorithm>,
        condition: WriteCondition,
    ) -> Result<Written, Error> {
        self.may_write(caller, to).await?;
        if from == to && replace.is_none() {
            return Err(Error::InvalidArgument("This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata.".into()));
        }
        let source = self.get(caller, from, None, from_condition).await?;
        let kept = source.object.details.as_deref();
        let compute = wanted.or_else(|| Algorithm::parse(&kept?.checksums.first()?.algorithm));
        let details = replace.unwrap_or_else(|| Details {
            headers: kept.map_or_else(Vec::new, |kept| kept.headers.clone()),
            ..Details::default()
        });
        let body = Body {
            compute,
            ..body(source)
        };
        self.put(caller, to, body, details, condition).await
    }

    #[expect(clippy::too_many_arguments, reason = "the arguments of UploadPartCopy")]
    pub async fn copy_part(
        &self,
        caller: &Caller,
        from: &Address,
        from_condition: &ReadCondition,
        range: Option<(u64, u64)>,
        to: &Address,
        upload: &str,
        number: u16,
    ) -> Result<Written, Error> {
        self.may_write(caller, to).await?;
        let source = self.head(caller, from, from_condition).await?;
        if range.is_some_and(|(first, last)| last < first || last >= source.size) {
            return Err(Error::InvalidArgument(
                "The range of x-amz-copy-source-range lies outside of the source object.".into(),
            ));
        }
        let spec = range.map(|(first, last)| RangeSpec::FromTo(first, last));
        let source = self.get(caller, from, spec, from_condition).await?;
        self.put_part(caller, to, upload, number, body(source))
            .await
    }
}

fn body(source: Retrieved) -> Body {
    let size = source
        .range
        .as_ref()
        .map_or(source.object.size, |r| r.end - r.start);
    Body {
        bytes: source
            .bytes
            .map(|chunk| chunk.map_err(|_| BodyError::SourceFailed))
            .boxed(),
        size: Some(size),
        trailer: None,
        md5: None,
        expected: Vec::new(),
        compute: None,
    }
}
