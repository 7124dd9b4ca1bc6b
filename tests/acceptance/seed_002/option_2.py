from magpie_local import Magpie

client = Magpie(api_key="your-key", base_url="http://your-server")

# Job 1: Create with custom ID
result1 = client.jobs.run_and_wait(
    name="Init",
    script="echo 'hello' > /workspace/greeting.txt",
    stateful=True,
    workspace_id="my-project-workspace",  # Custom ID
    workspace_size_gb=10
)

# Job 2: Reuse by custom ID
result2 = client.jobs.run_and_wait(
    name="Greet",
    script="cat /workspace/greeting.txt",
    stateful=True,
    workspace_id="my-project-workspace"  # Same custom ID
)
