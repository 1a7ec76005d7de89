// provider.mjs PORT: an issuer on 127.0.0.1:PORT whose clients get JWT access tokens by client_credentials.
//
// Whoever asks says what shall be in the token: `resource` is its audience, and three headers say the rest. `x-claims` is
// JSON, `x-life` are seconds, `x-alg` is the algorithm. Only tests talk to it.
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;

const key = (alg, type, options = {}) => {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), kid: alg.toLowerCase(), alg, use: 'sig' };
};
const keys = [
  key('RS256', 'rsa', { modulusLength: 2048 }),
  key('PS256', 'rsa', { modulusLength: 2048 }),
  key('ES256', 'ec', { namedCurve: 'P-256' }),
  key('EdDSA', 'ed25519'),
];

const client = (id) => ({
  client_id: id,
  client_secret: 'secret',
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});

const provider = new Provider(issuer, {
  clients: [client('acme-app'), client('acme-other')],
  jwks: { keys },
  scopes: ['push'],
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'] },
  extraTokenClaims: (ctx) => JSON.parse(ctx.get('x-claims') || '{}'),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'push',
        audience: resource,
        accessTokenFormat: 'jwt',
        accessTokenTTL: Number(ctx.get('x-life') || 300),
        jwt: { sign: { alg: ctx.get('x-alg') || 'RS256' } },
      }),
    },
  },
});

provider.listen(port, '127.0.0.1', () => console.log('ready'));
