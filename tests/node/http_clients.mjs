// A client around either generation's HttpAgent. `plain`: where to run instead, as one of AG-UI's own servers has it.
export function httpAgent(HttpAgent, { url, plain, agentId, ...config }) {
  const runUrl = plain === undefined ? `${url}/agent/${encodeURIComponent(agentId)}/run` : `${url}${plain}`;
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
