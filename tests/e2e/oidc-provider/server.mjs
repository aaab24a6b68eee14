// An identity provider of the npm package oidc-provider: `node server.mjs SETTINGS`.
//
// SETTINGS is a JSON file: {port, jwtResource, clients}.  Clients are metadata of RFC 7591;
// those whose `scope` holds "jwt" get JWT access tokens (RFC 9068), the others opaque ones.
// Everything is kept in memory and ends with the process.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const { port, jwtResource, clients } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = { ...privateKey.export({ format: "jwk" }), kid: "1", alg: "RS256", use: "sig" };

const stored = new Map();
class Memory {
  constructor(kind) {
    this.name = (id) => `${kind}:${id}`;
  }
  async upsert(id, payload) {
    stored.set(this.name(id), payload);
  }
  async find(id) {
    return stored.get(this.name(id));
  }
  async destroy(id) {
    stored.delete(this.name(id));
  }
}

const provider = new Provider(`http://127.0.0.1:${port}`, {
  adapter: Memory,
  clients,
  jwks: { keys: [key] },
  scopes: ["jwt"],
  clientAuthMethods: [
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
  ],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_context, client) =>
        client.scope?.split(" ").includes("jwt") ? jwtResource : undefined,
      getResourceServerInfo: (_context, resource) => ({
        audience: resource,
        scope: "jwt",
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  ttl: { ClientCredentials: 300 },
});
provider.listen(port, "127.0.0.1");
