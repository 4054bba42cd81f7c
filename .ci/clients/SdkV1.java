import com.amazonaws.AmazonServiceException;
import com.amazonaws.ClientConfiguration;
import com.amazonaws.Protocol;
import com.amazonaws.auth.BasicAWSCredentials;
import com.amazonaws.services.s3.AmazonS3Client;
import com.amazonaws.services.s3.S3ClientOptions;
import com.amazonaws.services.s3.model.*;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/** AWS SDK for Java v1 as Elasticsearch 2.4.6 carries it. Arguments: endpoint, key, secret, bucket, prefix; 2,500 keys lie under prefix + "many/". */
public class SdkV1 {
    static AmazonS3Client s3;
    static String bucket, prefix;

    public static void main(String[] a) throws Exception {
        bucket = a[3];
        prefix = a[4];
        ClientConfiguration configuration = new ClientConfiguration();
        configuration.setProtocol(Protocol.HTTP);
        configuration.setSignerOverride("AWSS3V4SignerType");
        s3 = new AmazonS3Client(new BasicAWSCredentials(a[1], a[2]), configuration);
        s3.setEndpoint(a[0]);
        s3.setS3ClientOptions(new S3ClientOptions().withPathStyleAccess(true));
        Random random = new Random(1);
        for (int size : new int[] {1, (5 << 20) - 1, 5 << 20, (5 << 20) + 1}) {
            byte[] body = new byte[size];
            random.nextBytes(body);
            s3.putObject(bucket, prefix + size, new ByteArrayInputStream(body), sized(size));
            same("put of " + size, body, read(new GetObjectRequest(bucket, prefix + size)));
        }
        multipart(random);
        lists();
        s3.copyObject(bucket, prefix + "1", bucket, prefix + "copy");
        same("copy", read(new GetObjectRequest(bucket, prefix + "1")), read(new GetObjectRequest(bucket, prefix + "copy")));
        deletes();
        try {
            s3.getObjectMetadata(bucket, prefix + "absent");
            throw new AssertionError("a key that is not there: was found");
        } catch (AmazonServiceException refused) {
            equal("a key that is not there", 404, refused.getStatusCode());
        }
        System.out.println("done");
    }

    static ObjectMetadata sized(long bytes) {
        ObjectMetadata metadata = new ObjectMetadata();
        metadata.setContentLength(bytes);
        return metadata;
    }

    static byte[] read(GetObjectRequest request) throws Exception {
        try (InputStream in = s3.getObject(request).getObjectContent()) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            in.transferTo(out);
            return out.toByteArray();
        }
    }

    static void multipart(Random random) throws Exception {
        byte[] whole = new byte[64 << 20];
        random.nextBytes(whole);
        String key = prefix + "multipart";
        String upload = s3.initiateMultipartUpload(new InitiateMultipartUploadRequest(bucket, key)).getUploadId();
        List<PartETag> parts = new ArrayList<>();
        int part = 8 << 20;
        for (int n = 1; (n - 1) * part < whole.length; n++)
            parts.add(s3.uploadPart(new UploadPartRequest().withBucketName(bucket).withKey(key).withUploadId(upload).withPartNumber(n).withPartSize(part)
                .withInputStream(new ByteArrayInputStream(whole, (n - 1) * part, part))).getPartETag());
        s3.completeMultipartUpload(new CompleteMultipartUploadRequest(bucket, key, upload, parts));
        same("multipart", whole, read(new GetObjectRequest(bucket, key)));
        for (int[] range : new int[][] {{0, 0}, {part - 1, part}, {12_345, 34_567_890}, {whole.length - 1, whole.length - 1}})
            same("range", Arrays.copyOfRange(whole, range[0], range[1] + 1), read(new GetObjectRequest(bucket, key).withRange(range[0], range[1])));
    }

    static List<String> keys() {
        List<String> keys = new ArrayList<>();
        ObjectListing page = s3.listObjects(bucket, prefix + "many/");
        while (true) {
            page.getObjectSummaries().forEach(o -> keys.add(o.getKey()));
            if (!page.isTruncated()) return keys;
            page = s3.listNextBatchOfObjects(page);
        }
    }

    static void lists() {
        List<String> keys = keys(), sorted = new ArrayList<>(keys);
        equal("keys listed", 2500, keys.size());
        sorted.sort(null);
        equal("order", sorted, keys);
        List<String> folders = new ArrayList<>();
        ObjectListing page = s3.listObjects(new ListObjectsRequest(bucket, prefix + "many/", null, "/", 7));
        while (true) {
            folders.addAll(page.getCommonPrefixes());
            if (!page.isTruncated()) break;
            page = s3.listNextBatchOfObjects(page);
        }
        equal("common prefixes", 25, folders.size());
    }

    static void deletes() {
        List<String> keys = keys();
        for (int from = 0; from < keys.size(); from += 1000) {
            List<String> some = keys.subList(from, Math.min(from + 1000, keys.size()));
            DeleteObjectsResult answer = s3.deleteObjects(new DeleteObjectsRequest(bucket).withKeys(some.toArray(new String[0])));
            equal("keys of a batch delete", some.size(), answer.getDeletedObjects().size());
        }
        equal("keys left", 0, keys().size());
    }

    static void same(String what, byte[] wanted, byte[] got) {
        if (!Arrays.equals(wanted, got)) throw new AssertionError(what + ": other bytes, " + got.length + " of " + wanted.length);
    }

    static void equal(String what, Object wanted, Object got) {
        if (!wanted.equals(got)) throw new AssertionError(what + ": got " + got + ", wanted " + wanted);
    }
}
