from tools.nvrctl import main

main()
