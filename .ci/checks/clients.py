"""The clients people have: boto3 and aws-cli as they are today, AWS SDK for Java v2 as both OpenSearch versions carry it, and v1 as Elasticsearch 2.4.6 does.

Every byte that went up comes down: 1 B, 5 MiB and one byte either side, 64 MiB in parts; ranges; 2,500 keys listed and deleted in batches.
"""

from rig import clients
from rig.check import main, promise
from rig.gateway import Gateway, Store


def started(bench):
    return Gateway(bench, "clients", Store.directory(bench.folder("directory-store"))).start().account


@promise
def boto3_gets_back_every_byte(bench):
    clients.every_byte_back(bench, started(bench))


@promise
def boto3_lists_and_deletes_thousands_of_keys(bench):
    clients.thousands_listed_and_deleted(started(bench))


@promise
def boto3_writes_on_conditions_and_with_presigned_addresses(bench):
    clients.conditions_and_presigned_addresses(started(bench))


@promise
def aws_cli_copies_there_and_back(bench):
    clients.aws_cli_there_and_back(bench, started(bench))


@promise
def java_sdk_v2_of_opensearch_3_8_0_gets_back_every_byte(bench):
    clients.java_sdk_v2(started(bench), "3.8.0")


@promise
def java_sdk_v2_of_opensearch_3_1_0_gets_back_every_byte(bench):
    clients.java_sdk_v2(started(bench), "3.1.0")


@promise
def java_sdk_v1_of_elasticsearch_2_4_6_gets_back_every_byte(bench):
    clients.java_sdk_v1(started(bench))


main()
