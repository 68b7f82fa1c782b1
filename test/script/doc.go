// Package script tests the program as a person meets it: each file in testdata is a session with the commands, their output and their exit
// codes, against a simulation of the provider. It holds no product code, and nothing imports it.
package script
