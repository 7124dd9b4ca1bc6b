from magpie_local import Magpie

client = Magpie(api_key="your-key", base_url="http://your-server")

workspace_id = "counter-demo"

for i in range(5):
    result = client.jobs.run_and_wait(
        name=f"Increment {i+1}",
        script="""
        # Read current counter
        if [ -f /workspace/counter ]; then
            COUNT=$(cat /workspace/counter)
        else
            COUNT=0
        fi

        # Increment
        COUNT=$((COUNT + 1))
        echo $COUNT > /workspace/counter
        echo "Counter is now: $COUNT"
        """,
        stateful=True,
        workspace_id=workspace_id
    )
    print(f"Run {i+1} completed")
