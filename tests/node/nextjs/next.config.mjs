// As users write it: the page's requests to /api go to the agents' server. Next.js compresses responses by default.
export default {
  async rewrites() {
    return [{ source: "/api/:path*", destination: `${process.env.AGENT_URL}/:path*` }];
  },
};
