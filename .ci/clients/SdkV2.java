import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.core.exception.SdkServiceException;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.*;

/** AWS SDK for Java v2 as an OpenSearch carries it. Arguments: endpoint, key, secret, bucket, prefix; 2,500 keys lie under prefix + "many/".
 *  It carries no ARN parser, so this build of it cannot copy. */
public class SdkV2 {
    static S3Client s3;
    static String bucket, prefix;

    public static void main(String[] a) throws Exception {
        bucket = a[3];
        prefix = a[4];
        s3 = S3Client.builder().endpointOverride(URI.create(a[0])).region(Region.US_EAST_1).forcePathStyle(true)
            .credentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create(a[1], a[2])))
            .httpClientBuilder(ApacheHttpClient.builder()).build();
        Random random = new Random(2);
        for (int size : new int[] {1, (5 << 20) - 1, 5 << 20, (5 << 20) + 1}) {
            byte[] body = new byte[size];
            random.nextBytes(body);
            s3.putObject(r -> r.bucket(bucket).key(prefix + size), RequestBody.fromBytes(body));
            same("put of " + size, body, read(prefix + size, null));
        }
        multipart(random);
        lists();
        deletes();
        refuses("a key that is not there", 404, () -> read(prefix + "absent", null));
        System.out.println("done");
    }

    static byte[] read(String key, String range) {
        return s3.getObjectAsBytes(r -> r.bucket(bucket).key(key).range(range)).asByteArray();
    }

    static void multipart(Random random) {
        byte[] whole = new byte[64 << 20];
        random.nextBytes(whole);
        String key = prefix + "multipart";
        String upload = s3.createMultipartUpload(r -> r.bucket(bucket).key(key)).uploadId();
        List<CompletedPart> parts = new ArrayList<>();
        int part = 8 << 20;
        for (int n = 1; (n - 1) * part < whole.length; n++) {
            int number = n;
            byte[] bytes = Arrays.copyOfRange(whole, (n - 1) * part, n * part);
            String tag = s3.uploadPart(r -> r.bucket(bucket).key(key).uploadId(upload).partNumber(number), RequestBody.fromBytes(bytes)).eTag();
            parts.add(CompletedPart.builder().partNumber(n).eTag(tag).build());
        }
        s3.completeMultipartUpload(r -> r.bucket(bucket).key(key).uploadId(upload).multipartUpload(m -> m.parts(parts)));
        same("multipart", whole, read(key, null));
        for (int[] range : new int[][] {{0, 0}, {part - 1, part}, {12_345, 34_567_890}, {whole.length - 1, whole.length - 1}})
            same("range", Arrays.copyOfRange(whole, range[0], range[1] + 1), read(key, "bytes=" + range[0] + "-" + range[1]));
    }

    static void lists() {
        List<String> keys = new ArrayList<>();
        s3.listObjectsV2Paginator(r -> r.bucket(bucket).prefix(prefix + "many/")).contents().forEach(o -> keys.add(o.key()));
        equal("keys listed", 2500, keys.size());
        List<String> sorted = new ArrayList<>(keys);
        sorted.sort(null);
        equal("order", sorted, keys);
        List<String> folders = new ArrayList<>();
        s3.listObjectsV2Paginator(r -> r.bucket(bucket).prefix(prefix + "many/").delimiter("/").maxKeys(7)).commonPrefixes().forEach(p -> folders.add(p.prefix()));
        equal("common prefixes", 25, folders.size());
    }

    static void deletes() {
        List<ObjectIdentifier> batch = new ArrayList<>();
        s3.listObjectsV2Paginator(r -> r.bucket(bucket).prefix(prefix + "many/")).contents().forEach(o -> batch.add(ObjectIdentifier.builder().key(o.key()).build()));
        for (int from = 0; from < batch.size(); from += 1000) {
            List<ObjectIdentifier> some = batch.subList(from, Math.min(from + 1000, batch.size()));
            DeleteObjectsResponse answer = s3.deleteObjects(r -> r.bucket(bucket).delete(d -> d.objects(some).quiet(true)));
            equal("errors of a batch delete", 0, answer.errors().size());
        }
        equal("keys left", 0, s3.listObjectsV2(r -> r.bucket(bucket).prefix(prefix + "many/")).contents().size());
    }

    static void refuses(String what, int status, Runnable call) {
        try {
            call.run();
        } catch (SdkServiceException refused) {
            equal(what, status, refused.statusCode());
            return;
        }
        throw new AssertionError(what + ": was not refused");
    }

    static void same(String what, byte[] wanted, byte[] got) {
        if (!Arrays.equals(wanted, got)) throw new AssertionError(what + ": other bytes, " + got.length + " of " + wanted.length);
    }

    static void equal(String what, Object wanted, Object got) {
        if (!wanted.equals(got)) throw new AssertionError(what + ": got " + got + ", wanted " + wanted);
    }
}
