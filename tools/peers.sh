#!/bin/sh
# Installs and builds the real peers that the tests behind the build tag "real" start.
#
#   tools/peers.sh          everything
#   tools/peers.sh cc       the C compiler only, which the race detector needs
#   tools/peers.sh debian   Debian packages only (needs root and apt-get)
#   tools/peers.sh moto     the AWS stand-in only (a Python package)
#   tools/peers.sh kube     the Kubernetes binaries only (Go modules, about 12 CPU minutes when cold)
#
# It may be run any number of times: what is there is left alone. Nothing is
# started, and nothing is written outside the package manager's own folders and
# ${XDG_CACHE_HOME:-$HOME/.cache}/keywright/peers. The versions of the built
# peers are the ones in tools/kube/go.mod and tools/kwok/go.mod.
# Exit status: 0 when every peer asked for is there, 1 when one is missing.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/keywright/peers
missing=
ours= # a policy file that stands only during an installation

say() { printf 'peers: %s\n' "$*"; }

lack() {
	say "$1 is missing: $2" >&2
	missing="$missing $1"
}

# have NAME looks in PATH and in the folders that a plain user's PATH lacks.
have() {
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]
}

have_postgres() {
	for bin in /usr/lib/postgresql/*/bin/postgres; do
		[ -x "$bin" ] && return 0
	done
	return 1
}

have_moto() {
	have moto_server || [ -x "$cache/moto/bin/moto_server" ]
}

have_cc() {
	have "$(go env CC)"
}

# install PACKAGE... installs Debian packages where that can be done.
install() {
	[ $# -gt 0 ] && [ "$(id -u)" = 0 ] && have apt-get || return 0
	say "installing $*"
	# The packages start their services on installation, which no test wants:
	# a policy that answers 101 forbids it. An existing policy is left alone.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		ours=$policy
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	{ apt-get -q -o DPkg::Lock::Timeout=300 update &&
		DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
			install --no-install-recommends "$@"; } </dev/null >"$log" 2>&1 ||
		tail -n 20 "$log" >&2
	rm -f "$ours"
	ours=
}

cc() {
	have_cc || install gcc libc6-dev
	have_cc || lack "$(go env CC)" "install a C compiler (apt-get install gcc libc6-dev), which the race detector needs"
}

debian() {
	set --
	have dockerd || set -- "$@" docker.io
	have etcd || set -- "$@" etcd-server
	have_postgres || set -- "$@" postgresql
	have_moto || python3 -c 'import ensurepip' 2>/dev/null || set -- "$@" python3-venv
	have jq || set -- "$@" jq
	have openssl || set -- "$@" openssl
	have pre-commit || set -- "$@" pre-commit
	have_cc || set -- "$@" gcc libc6-dev
	install "$@"
	have jq || lack jq "apt-get install jq"
	have openssl || lack openssl "apt-get install openssl"
	have pre-commit || lack pre-commit "apt-get install pre-commit"
	have dockerd || lack dockerd "apt-get install docker.io"
	have etcd || lack etcd "apt-get install etcd-server"
	have_postgres || lack postgres "apt-get install postgresql"
	cc
}

moto() {
	if ! have_moto; then
		say "installing moto"
		mkdir -p "$cache"
		{ python3 -m venv "$cache/moto" &&
			"$cache/moto/bin/pip" --disable-pip-version-check install -q 'moto[server]'; } </dev/null >"$log" 2>&1 ||
			tail -n 5 "$log" >&2
	fi
	have_moto || lack moto_server "python3 -m pip install 'moto[server]'"
}

# version MODULE GOMOD prints the version that GOMOD requires of MODULE.
version() {
	awk -v m="$1" '$1 == "require" { sub(/^require /, "") } $1 == m && $2 ~ /^v/ { print $2; exit }' "$2"
}

# build NAME VERSION FOLDER LDFLAGS PACKAGE... builds commands of one tools
# module into the cache. The folder appears under its name only when complete.
build() {
	name=$1 v=$2 dir=$root/tools/$3 flags=$4
	shift 4
	out=$cache/$name/$v
	[ ! -d "$out" ] || return 0
	say "building $name $v"
	mkdir -p "$cache/$name"
	tmp=$(mktemp -d "$cache/$name/.build.XXXXXX")
	if (cd "$dir" && CGO_ENABLED=0 GOWORK=off nice -n 19 go build -trimpath -ldflags "-s -w $flags" -o "$tmp/" "$@") </dev/null &&
		chmod 755 "$tmp" && { mv -T "$tmp" "$out" 2>/dev/null || [ -d "$out" ]; }; then
		say "$name $v is ready"
	else
		lack "$name" "the build in tools/$3 failed"
	fi
	rm -rf "$tmp"
}

kube() {
	v=$(version k8s.io/kubernetes "$root/tools/kube/go.mod")
	minor=${v#v*.}
	x=k8s.io/component-base/version
	# Clients refuse or misread a server that answers v0.0.0-master.
	build kubernetes "$v" kube \
		"-X $x.gitVersion=$v -X $x.gitMajor=1 -X $x.gitMinor=${minor%%.*} -X $x.gitTreeState=clean -X $x.buildDate=1970-01-01T00:00:00Z" \
		k8s.io/kubernetes/cmd/kube-apiserver \
		k8s.io/kubernetes/cmd/kube-controller-manager \
		k8s.io/kubernetes/cmd/kube-scheduler
	build kwok "$(version sigs.k8s.io/kwok "$root/tools/kwok/go.mod")" kwok "" sigs.k8s.io/kwok/cmd/kwok
}

log=$(mktemp)
trap 'rm -f "$log" "$ours"' EXIT
trap 'exit 130' INT TERM

case ${1:-all} in
all) debian && moto && kube ;;
cc | debian | moto | kube) "$1" ;;
*)
	echo "usage: tools/peers.sh [cc|debian|moto|kube]" >&2
	exit 2
	;;
esac
if [ -n "$missing" ]; then
	exit 1
fi
say "all there"
