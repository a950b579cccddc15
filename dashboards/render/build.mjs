// Bundles the page into dist/; run in a folder that has node_modules.
import { readFile } from 'node:fs/promises';
import { build } from 'esbuild';

const NODE = /^(assert|buffer|crypto|events|fs|http|https|net|os|path|stream|tls|url|util|zlib)$/;

const repairs = {
  name: 'repairs',
  setup(bundle) {
    // Libraries import node's modules only where node exists; the browser does not need them.
    bundle.onResolve({ filter: NODE }, ({ path }) => ({ path, namespace: 'absent' }));
    bundle.onLoad({ filter: /.*/, namespace: 'absent' }, () => ({ contents: 'module.exports = {}' }));
    // Scenes imports defaults that this package's types for tables do not have.
    bundle.onLoad({ filter: /table\/panelcfg\/x\/.*gen\.mjs$/ }, async ({ path }) => {
      const contents = await readFile(path, 'utf8');
      return { contents: contents.includes('defaultOptions') ? contents : contents + '\nexport const defaultOptions = {};' };
    });
  },
};

await build({
  entryPoints: ['src/page.tsx'],
  outdir: 'dist',
  bundle: true,
  minify: true,
  format: 'iife',
  jsx: 'automatic',
  conditions: ['browser'],
  alias: { 'react-router-dom-v5-compat': 'react-router-dom' },
  mainFields: ['browser', 'module', 'main'],
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: Object.fromEntries(['svg', 'png', 'ttf', 'woff', 'woff2'].map((kind) => [`.${kind}`, 'dataurl'])),
  plugins: [repairs],
  logLevel: 'error',
});
