# OpenSearch and Elasticsearch as single nodes, assembled from what Maven Central publishes (no tarball, no container).
# Each lies in $CACHE/clusters/NAME-VERSION and is never run there: a check copies it and runs the copy.

OPENSEARCH=(3.8.0 3.1.0)
ELASTICSEARCH=(2.4.6 5.6.16 6.8.23 7.17.29 8.19.21 9.5.3)

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
  console_log "$home"
}

console_log() { # console_log HOME : servers log to where their process does
  mkdir -p "$1/config"
  cat >"$1/config/log4j2.properties" <<'P'
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
P
}

elasticsearch() { # elasticsearch HOME VERSION : 2.4.6 speaks S3, the others only have `type: fs` (their S3 plugins are not published)
  case $2 in
    2.*) elasticsearch_zip "$1" "$2"; elasticsearch_cloud_aws "$1" "$2" ;;
    5.* | 6.*) elasticsearch_zip "$1" "$2"; console_log "$1" ;;
    7.*) elasticsearch_jars "$1" "$2" org.elasticsearch.plugin:transport-netty4-client; elasticsearch_seven "$1" "$2" ;;
    *) elasticsearch_jars "$1" "$2" org.elasticsearch.plugin:transport-netty4; elasticsearch_modular "$1" "$2" ;;
  esac
}

elasticsearch_zip() {
  local zip; zip=$(mktemp -d)
  artifact "$zip" "org.elasticsearch.distribution.zip:elasticsearch:$2:zip"
  unzip -q "$zip/elasticsearch-$2.zip" -d "$zip"
  cp -a "$zip/elasticsearch-$2/." "$1/"
  rm -rf "$zip"
}

elasticsearch_cloud_aws() {
  local zip; zip=$(mktemp -d)
  artifact "$zip" "org.elasticsearch.plugin:cloud-aws:$2:zip"
  mkdir -p "$1/plugins/cloud-aws"
  unzip -q "$zip/cloud-aws-$2.zip" -d "$1/plugins/cloud-aws"
  artifact "$1/plugins/cloud-aws" javax.xml.bind:jaxb-api:2.3.1:jar # its SDK needs what JDK 11 dropped
  rm -rf "$zip"
}

elasticsearch_jars() { # elasticsearch_jars HOME VERSION TRANSPORT : the server and its network module from their jars
  local jar
  jars "$1/lib" "org.elasticsearch:elasticsearch:$2"
  jars "$1/modules/transport-netty4" "$3:$2"
  for jar in "$1"/modules/transport-netty4/*.jar; do # the server refuses to start when a module repeats a jar of lib/
    [ ! -e "$1/lib/${jar##*/}" ] || rm "$jar"
  done
  mkdir -p "$1/plugins"
  console_log "$1"
}

elasticsearch_seven() {
  local module=$1/modules/transport-netty4
  : >"$1/config/jvm.options"
  cat >"$module/plugin-descriptor.properties" <<P
name=transport-netty4
description=network
version=$2
elasticsearch.version=$2
java.version=1.8
classname=org.elasticsearch.transport.Netty4Plugin
extended.plugins=
has.native.controller=false
P
  cat >"$module/plugin-security.policy" <<'P'
grant codeBase "${codebase.netty-common}" {
  permission java.io.FilePermission "/proc/sys/net/core/somaxconn", "read";
  permission java.net.SocketPermission "*", "accept,connect";
  permission java.lang.RuntimePermission "setContextClassLoader";
  permission java.lang.RuntimePermission "getClassLoader";
};
grant codeBase "${codebase.netty-transport}" { permission java.util.PropertyPermission "sun.nio.ch.bugLevel", "write"; };
P
}

elasticsearch_modular() { # 8 and 9: modules, an agent, native code from Debian, start-up arguments through standard input
  local home=$1 version=$2 jdk built; jdk=$(newest_jdk); built=$(mktemp -d)
  unzip -q -j -o "$home/modules/transport-netty4/transport-netty4-$version.jar" 'META-INF/es-plugins/transport-netty4/*' -d "$home/modules/transport-netty4"
  mkdir -p "$home"/lib/{entitlement-bridge,entitlement-agent,tools/ansi-console,platform/linux-x64,launch}
  artifact "$home/lib/entitlement-bridge" "org.elasticsearch:elasticsearch-entitlement-bridge:$version:jar"
  cp /usr/lib/x86_64-linux-gnu/libzstd.so.1 "$home/lib/platform/linux-x64/libzstd.so"
  mkdir "$built/agent" "$built/console"
  "$jdk/bin/javac" -nowarn --release 21 -d "$built/agent" "$ROOT/.ci/clients/elasticsearch/Agent.java"
  printf 'Agent-Class: Agent\nCan-Retransform-Classes: true\n' >"$built/manifest"
  "$jdk/bin/jar" cfm "$home/lib/entitlement-agent/agent.jar" "$built/manifest" -C "$built/agent" .
  "$jdk/bin/javac" -nowarn --release 21 -d "$built/console" "$ROOT/.ci/clients/elasticsearch/AnsiConsoleLoader.java"
  "$jdk/bin/jar" cf "$home/lib/tools/ansi-console/console.jar" -C "$built/console" .
  "$jdk/bin/javac" -nowarn --release 21 -cp "$home/lib/*" -d "$home/lib/launch" "$ROOT/.ci/clients/elasticsearch/StartArguments.java"
  rm -rf "$built"
}

newest_jdk() { # 21 or newer: what 8 and 9 are compiled for
  local home
  for home in $(find /usr/lib/jvm -maxdepth 1 -name '*jdk*' | sort -Vr); do
    if [ -x "$home/bin/javac" ] && [ "$("$home/bin/javac" -version 2>&1 | sed -E 's/javac ([0-9]+).*/\1/')" -ge 21 ]; then echo "$home"; return; fi
  done
  die "no JDK 21 or newer below /usr/lib/jvm"
}

install_clusters() {
  local version
  for version in "${OPENSEARCH[@]}"; do place "clusters/opensearch-$version" opensearch "$version"; done
  for version in "${ELASTICSEARCH[@]}"; do place "clusters/elasticsearch-$version" elasticsearch "$version"; done
}
