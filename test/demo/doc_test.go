// Package demo_test runs the demo as a person does and looks at what it leaves: values in what it wrote, processes, files. It has tests alone.
package demo_test
