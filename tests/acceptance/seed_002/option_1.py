from magpie_local import Magpie

client = Magpie(api_key="your-key", base_url="http://your-server")

# Job 1: Create workspace (workspace_id will be the request_id)
result1 = client.jobs.run_and_wait(
    name="Initialize Workspace",
    script="echo 'data' > /workspace/file.txt",
    stateful=True,
    workspace_size_gb=5  # Optional, defaults to 10GB
)

workspace_id = result1.request_id  # Use this for subsequent jobs

# Job 2: Reuse the same workspace
result2 = client.jobs.run_and_wait(
    name="Read Workspace",
    script="cat /workspace/file.txt",  # Will show 'data'
    stateful=True,
    workspace_id=workspace_id  # Reuse same workspace
)
