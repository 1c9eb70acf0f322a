export default function Page() {
  return <p>agents</p>;
}
