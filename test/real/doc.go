// Package real drives the built program as its users do (commands, a daemon, signals) against real peers: Moto, a Kubernetes
// control plane, a Docker engine and PostgreSQL. The provider alone is simulated. Its tests stand behind the build tag "real";
// none of them calls the product's packages to change or read a place.
package real
