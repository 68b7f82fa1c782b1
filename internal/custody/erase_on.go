//go:build goexperiment.runtimesecret

package custody

import runtimesecret "runtime/secret"

// erasing runs f and then overwrites the registers and stack it used; the runtime overwrites its heap memory when it is
// collected.
func erasing(f func()) { runtimesecret.Do(f) }
