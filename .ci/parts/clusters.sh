# OpenSearch and Elasticsearch as single nodes, assembled from what Maven Central publishes (no tarball, no container).
# Each lies in $CACHE/clusters/NAME-VERSION and is never run there: a check copies it and runs the copy.

OPENSEARCH=(3.8.0 3.1.0)
ELASTICSEARCH=(2.4.6)

maven() { retry nice -n 5 mvn -q -B -ntp -Dstyle.color=never "$@" >&2; }

jars() { # jars FOLDER GROUP:ARTIFACT:VERSION... : these artifacts and all they need at run time
  local into=$1 project; shift
  project=$(mktemp -d)
  {
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>c</groupId><artifactId>c</artifactId><version>1</version><dependencies>'
    printf '%s\n' "$@" | sed -E 's|(.*):(.*):(.*)|<dependency><groupId>\1</groupId><artifactId>\2</artifactId><version>\3</version></dependency>|'
    echo '</dependencies></project>'
  } >"$project/pom.xml"
  maven -f "$project/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$into"
  rm -rf "$project"
}

artifact() { # artifact FOLDER GROUP:ARTIFACT:VERSION:TYPE : this one file
  maven org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -Dartifact="$2" -DoutputDirectory="$1"
}

opensearch_module() { # opensearch_module HOME KIND/NAME CLASS ARTIFACT VERSION
  local home=$1 place=$1/$2 jar
  jars "$place" "org.opensearch.plugin:$4:$5"
  for jar in "$place"/*.jar; do # the server refuses to start when a module repeats a jar of lib/
    if [ -e "$home/lib/${jar##*/}" ] || [[ ${jar##*/} == opensearch-[0-9]* ]]; then rm "$jar"; fi
  done
  cat >"$place/plugin-descriptor.properties" <<P
name=${2##*/}
description=${2##*/}
version=$5
opensearch.version=$5
java.version=11
classname=$3
P
  # wider than the published policy, which only the zip carries: this is a test node
  cat >"$place/plugin-security.policy" <<'P'
grant {
  permission java.lang.RuntimePermission "*";
  permission java.lang.reflect.ReflectPermission "*";
  permission java.net.NetPermission "*";
  permission java.net.SocketPermission "*", "accept,connect,listen,resolve";
  permission java.util.PropertyPermission "*", "read,write";
  permission java.io.FilePermission "<<ALL FILES>>", "read";
};
P
}

pom_says() { # pom_says POM ARTIFACT : the version a pom names for a dependency it marks optional
  grep -A1 "<artifactId>$2</artifactId>" "$1" | sed -n 's|.*<version>\(.*\)</version>.*|\1|p' | head -1
}

opensearch() { # opensearch HOME VERSION
  local home=$1 version=$2 pom
  mkdir -p "$home"/{bin,config}
  jars "$home/lib" "org.opensearch:opensearch:$version" "org.opensearch:opensearch-plugin-classloader:[${version%%.*}.0.0,$version]"
  artifact "$home" "org.opensearch:opensearch:$version:pom"
  pom=$home/opensearch-$version.pom
  jars "$home/lib" "org.apache.logging.log4j:log4j-core:$(pom_says "$pom" log4j-core)" \
    "org.locationtech.jts:jts-core:$(pom_says "$pom" jts-core)" \
    "org.locationtech.spatial4j:spatial4j:$(pom_says "$pom" spatial4j)"
  jars "$home/agent" "org.opensearch:opensearch-agent:[3.0.0,$version]" "org.opensearch:opensearch-agent-bootstrap:[3.0.0,$version]"
  cp "$home"/agent/opensearch-agent-bootstrap-*.jar "$home/lib/"
  opensearch_module "$home" modules/transport-netty4 org.opensearch.transport.Netty4ModulePlugin transport-netty4-client "$version"
  opensearch_module "$home" plugins/repository-s3 org.opensearch.repositories.s3.S3RepositoryPlugin repository-s3 "$version"
  cat >"$home/config/log4j2.properties" <<'P'
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
P
}

elasticsearch() { # elasticsearch HOME VERSION : 2.4.6, the last of the cloud-aws plugin
  local home=$1 version=$2 zips
  zips=$(mktemp -d)
  artifact "$zips" "org.elasticsearch.distribution.zip:elasticsearch:$version:zip"
  artifact "$zips" "org.elasticsearch.plugin:cloud-aws:$version:zip"
  unzip -q "$zips/elasticsearch-$version.zip" -d "$zips"
  cp -a "$zips/elasticsearch-$version/." "$home/"
  mkdir -p "$home/plugins/cloud-aws"
  unzip -q "$zips/cloud-aws-$version.zip" -d "$home/plugins/cloud-aws"
  artifact "$home/plugins/cloud-aws" javax.xml.bind:jaxb-api:2.3.1:jar # its SDK needs what JDK 11 dropped
  rm -rf "$zips"
}

install_clusters() {
  local version
  for version in "${OPENSEARCH[@]}"; do place "clusters/opensearch-$version" opensearch "$version"; done
  for version in "${ELASTICSEARCH[@]}"; do place "clusters/elasticsearch-$version" elasticsearch "$version"; done
}
