// Package simulator is the Anthropic API as a stateful HTTP server inside the
// process. It exists for the demonstration, for tests and for drills, and says
// so on every page and in the reply header x-keywright-simulator.
//
// It keeps an organization with workspaces, members, API keys, admin keys,
// usage and an activity feed, and answers the calls that the life-cycle of a
// key needs: messages (also streamed), token counting, models, batches, files,
// skills, the Admin API for keys, workspaces and members, usage and cost
// reports, and the activity feed. A small Console page lets a person create a key, because the
// API itself cannot. Faults can be armed to produce every error that the
// provider documents, lost replies and damaged bodies.
//
// It never calls another host, never runs a model (replies are fixed text),
// and never keeps a key value: after creation only its SHA-256 and the public
// hint remain. It depends on no other package of this module, so that a
// mistake in the provider client is not repeated here.
//
// Callers are the simulate and demo commands and the tests of other packages.
//
// Where the provider's behaviour is not documented, the simulator chooses:
//
//   - a workspace key on an admin endpoint gets 403 permission_error, an admin
//     key on an inference endpoint gets 401 authentication_error;
//   - an archived key never comes back (400 on every other status);
//   - anthropic-workspace-id that differs from the key's workspace gets 400;
//     a key without a workspace that names none acts in the default one;
//   - lists of keys, workspaces, batches, files and skills are ordered newest
//     first;
//   - a request that offers the code tool gets an answer in which it was used once:
//     it names a container, and a file that the tool made, the only kind that can
//     be read back;
//   - batches, files, custom skills and containers belong to the workspace of the
//     key; elsewhere they answer 404;
//   - an unknown query parameter gets 400, so that misspelt filters are found;
//     the report filters for dimensions without data (products, sessions,
//     organizations and such) count as unknown.
package simulator
