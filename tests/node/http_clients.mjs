// A client around either generation's HttpAgent.
export function httpAgent(HttpAgent, { url, agentId, ...config }) {
  const runUrl = `${url}/agent/${encodeURIComponent(agentId)}/run`;
  const agent = new HttpAgent({ url: runUrl, agentId, ...config });
  return {
    agent,
    errors: [],
    run: (parameters) => {
      agent.url = runUrl;
      return agent.runAgent(parameters);
    },
    connect: () => {
      agent.url = `${url}/agent/${encodeURIComponent(agentId)}/connect`;
      return agent.runAgent();
    },
    stop: () => agent.abortRun(),
  };
}
